"""Text-generation models: one interface, a class for each protocol, and one for several servers."""

from collections.abc import Callable

import redis

from chatbot.config import HUGGINGFACE, OPENAI_RESPONSES, ModelAddress, Settings
from chatbot.worker.models.balancer import BalancedModel
from chatbot.worker.models.base import Model, ModelProtocol
from chatbot.worker.models.http.endpoint import ModelEndpoint
from chatbot.worker.models.protocols.huggingface import TextGenerationProtocol
from chatbot.worker.models.protocols.openai import OpenAIProtocol
from chatbot.worker.models.protocols.responses import ResponsesProtocol


def create_model(settings: Settings, client: Callable[[], redis.Redis] | None = None) -> Model:
    """The model that the settings name, on one server or on several: of these calls are counted together with those of
    the other processes that share the Redis of `client`."""
    if len(settings.model.servers) == 1:
        return create_protocol(settings.model.servers[0], settings)
    models = {server.url: create_protocol(server, settings) for server in settings.model.servers}
    return BalancedModel(models, settings.model.rest, client)


def create_protocol(address: ModelAddress, settings: Settings) -> ModelProtocol:
    """The model on one server."""
    endpoint = ModelEndpoint(address.url, settings)
    if address.api == HUGGINGFACE:
        return TextGenerationProtocol(endpoint, settings)
    if address.api == OPENAI_RESPONSES:
        return ResponsesProtocol(endpoint, settings)
    return OpenAIProtocol(endpoint, address.api, settings)
