"""Parts that URLs of Sentinels and of clusters share: several hosts, and redis-py's options."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis.connection import parse_url


def redis_options(login: str, tls: bool, database: str, query: str) -> dict[str, Any]:
    """User, password, database, timeouts and TLS, in the form of redis-py's `parse_url`; without a host.

    `login` is `user:password` or ''. Raises `ValueError` for an option that redis-py cannot read.
    """
    scheme = "rediss" if tls else "redis"
    options: dict[str, Any] = dict(parse_url(f"{scheme}://{login}{'@' if login else ''}redis/{database}?{query}"))
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    return options


def host_and_port(address: str, default_port: int, owner: str, example: str = "") -> tuple[str, int]:
    """The parts of `host[:port]`. Raises `ValueError` about the `owner`, with an `example` where it lacks a host."""
    parts = urlsplit(f"//{address}")
    if not parts.hostname:
        raise ValueError(f"{owner} has no host name{example and f': {example}'}")
    try:
        return parts.hostname, parts.port or default_port
    except ValueError:
        raise ValueError(f"{owner}'s port is not a port number") from None
