"""Every setting, declared once: attribute, variable, default, check and description. One module for each group.

`.env.example` and the table in docs/settings.md are generated from these declarations (`make settings`).
"""

from chatbot.config.settings.flower import FlowerSettings
from chatbot.config.settings.limits import LimitsSettings
from chatbot.config.settings.log import LogSettings
from chatbot.config.settings.model import ModelSettings
from chatbot.config.settings.redis import RedisSettings
from chatbot.config.settings.web import WebSettings
from chatbot.config.settings.worker import WorkerSettings

__all__ = [
    "FlowerSettings",
    "LimitsSettings",
    "LogSettings",
    "ModelSettings",
    "RedisSettings",
    "WebSettings",
    "WorkerSettings",
]
