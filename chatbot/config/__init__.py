"""The settings: read once from the environment and `.env`, checked at start, frozen from then on."""

from chatbot.config.address_fields import Networks
from chatbot.config.addresses import (
    HUGGINGFACE,
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_RESPONSES,
    PYTHON,
    WITH_TOOLS,
    ModelAddress,
)
from chatbot.config.misspellings import misspelled
from chatbot.config.reader import Settings, load_settings, read_settings
from chatbot.config.settings import LimitsSettings, ModelSettings, RedisSettings, WebSettings, WorkerSettings

__all__ = [
    "HUGGINGFACE",
    "OPENAI_CHAT",
    "OPENAI_COMPLETIONS",
    "OPENAI_RESPONSES",
    "PYTHON",
    "WITH_TOOLS",
    "LimitsSettings",
    "ModelAddress",
    "ModelSettings",
    "Networks",
    "RedisSettings",
    "Settings",
    "WebSettings",
    "WorkerSettings",
    "load_settings",
    "misspelled",
    "read_settings",
]
