"""The models that a worker can ask: one interface, an adapter for each protocol."""

from chatbot.config import HUGGINGFACE, Settings
from chatbot.worker.models.base import Model
from chatbot.worker.models.http import ModelServer
from chatbot.worker.models.huggingface import TextGeneration
from chatbot.worker.models.openai import OpenAI


def create_model(settings: Settings) -> Model:
    """The model that the settings name."""
    server = ModelServer(settings)
    if settings.model_api == HUGGINGFACE:
        return TextGeneration(server, settings)
    return OpenAI(server, settings)
