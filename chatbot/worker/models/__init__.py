"""The models that a worker can ask: one interface, an adapter for each protocol."""

from chatbot.config import HUGGINGFACE, ModelAddress, Settings
from chatbot.worker.models.balancer import BalancedModel
from chatbot.worker.models.base import Adapter, Model
from chatbot.worker.models.http import ModelServer
from chatbot.worker.models.huggingface import TextGeneration
from chatbot.worker.models.openai import OpenAI


def create_model(settings: Settings) -> Model:
    """The model that the settings name, on one server or on several."""
    if len(settings.model.servers) == 1:
        return create_adapter(settings.model.servers[0], settings)
    return BalancedModel(
        {server.url: create_adapter(server, settings) for server in settings.model.servers}, settings.model.rest
    )


def create_adapter(address: ModelAddress, settings: Settings) -> Adapter:
    """The model on one server."""
    server = ModelServer(address.url, settings)
    if address.api == HUGGINGFACE:
        return TextGeneration(server, settings)
    return OpenAI(server, address.api, settings)
