"""Settings of Flower."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.config import address_fields, fields
from chatbot.config.declaration import setting


@dataclass(frozen=True)
class FlowerSettings:
    """Flower"""

    port: int = setting("FLOWER_PORT", 5555, fields.integer(1, 65535), "The port of Flower.")
    address: str = setting("FLOWER_ADDRESS", "127.0.0.1", address_fields.host(), "The address that Flower listens on.")
    basic_auth: str | None = setting(
        "FLOWER_BASIC_AUTH",
        None,
        fields.login(),
        "user:password. Without it Flower starts on loopback only, unless the next line allows more.",
        secret=True,
    )
    unauthenticated: bool = setting(
        "FLOWER_UNAUTHENTICATED", False, fields.boolean(), "Whether Flower may listen elsewhere without a password."
    )
    max_tasks: int = setting(
        "FLOWER_MAX_TASKS", 10_000, fields.integer(1, 10_000_000), "Tasks kept in memory; 100 000 take several 100 MB."
    )
    purge_offline_workers: int = setting(
        "FLOWER_PURGE_OFFLINE_WORKERS", 60, fields.integer(0, 10_000_000), "Seconds until a lost worker is not shown."
    )
