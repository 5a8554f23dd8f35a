"""Settings of logs."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.config import fields
from chatbot.config.declaration import setting


@dataclass(frozen=True)
class LogSettings:
    """Logs"""

    format: str = setting(
        "LOG_FORMAT",
        "auto",
        fields.choice("auto", "text", "json"),
        "text, json, or auto: text on a terminal (and in `make run`), else json.",
    )
    level: str = setting(
        "LOG_LEVEL",
        "INFO",
        fields.choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "The least severe level that is logged.",
    )
