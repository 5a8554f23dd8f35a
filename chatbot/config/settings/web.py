"""Settings of web processes."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.config import address_fields, fields
from chatbot.config.address_fields import Networks
from chatbot.config.declaration import setting


@dataclass(frozen=True)
class WebSettings:
    """Web processes"""

    host: str = setting("HOST", "127.0.0.1", address_fields.host(), "The address to listen on.")
    port: int = setting("PORT", 5000, fields.integer(1, 65535), "The port to listen on.")
    processes: int = setting("WEB_CONCURRENCY", 1, fields.integer(1, 1000), "Web processes under one gunicorn.")
    trusted_proxies: Networks | int = setting(
        "TRUSTED_PROXIES",
        (),
        address_fields.proxies(),
        "Proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are believed: addresses or networks, separated by "
        "commas, or how many stand in front.",
        shown="",
    )
    prefix: str = setting(
        "SCRIPT_NAME",
        "",
        address_fields.path_prefix(),
        "The path below which the chat is reached, such as /chat-app, where no trusted proxy sends X-Forwarded-Prefix.",
    )
    allowed_origins: tuple[str, ...] = setting(
        "ALLOWED_ORIGINS",
        (),
        address_fields.origins(),
        "Origins besides the page's own whose pages may connect, separated by commas; * for all.",
        shown="",
    )
    allowed_hosts: tuple[str, ...] = setting(
        "ALLOWED_HOSTS",
        (),
        address_fields.hosts(),
        "Host names at which web and Flower are reached, separated by commas: chat.example.org, .example.org with all "
        "names below it, addresses, or * for any. Those of loopback always count; unset, nothing else does where HOST "
        "(of Flower, FLOWER_ADDRESS) is loopback, and any host elsewhere.",
        shown="",
    )
    ping_interval: float = setting(
        "PING_INTERVAL", 25.0, fields.seconds(), "Seconds between pings; a socket that leaves one unanswered is closed."
    )
    api_keys: str = setting(
        "API_KEYS",
        "auto",
        fields.choice("auto", "required", "off"),
        "Whether /v1 asks for an API key: required, off, or auto, which is off where only this machine reaches the "
        "server: HOST is loopback, and neither TRUSTED_PROXIES nor ALLOWED_HOSTS is set.",
    )
    metrics_token: str | None = setting(
        "METRICS_TOKEN",
        None,
        fields.credential(),
        "The bearer token that /metrics asks for; open unless set.",
        secret=True,
    )
