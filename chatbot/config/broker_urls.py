"""URLs of the queue's broker: a Redis, or RabbitMQ."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from chatbot.config.host_names import is_host
from chatbot.config.redis_urls import SCHEMES, checked_redis_url

#: RabbitMQ, without and with TLS.
AMQP_SCHEMES = ("amqp", "amqps")
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")


def is_amqp(url: str) -> bool:
    return url.partition("://")[0] in AMQP_SCHEMES


def checked_broker_url(raw: str, encode: str) -> str:
    """`raw`, if it names a Redis or a RabbitMQ. Raises `ValueError`, whose text repeats no part of the URL.

    `encode` says what to do about a password that is not percent-encoded.
    """
    scheme, separator, rest = raw.partition("://")
    scheme = {"pyamqp": "amqp"}.get(scheme.lower(), scheme.lower())
    if separator and scheme not in (*SCHEMES, *AMQP_SCHEMES, "redis+socket"):
        raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in (*SCHEMES, *AMQP_SCHEMES))}")
    if scheme not in AMQP_SCHEMES:
        return checked_redis_url(raw, encode)
    url = f"{scheme}://{rest}"
    if _UNSAFE.search(url):
        raise ValueError(f"holds a space or a control character: {encode}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"is not a URL: check the host and the port, and {encode}") from None
    if "#" in url or "@" in f"{parts.path}{parts.query}":
        raise ValueError(f"holds one of the characters # / ? @ where no URL can: {encode}")
    if not parts.hostname:
        raise ValueError("names no host")
    if not is_host(parts.hostname):
        raise ValueError("names a host that cannot exist")
    if parts.query:
        raise ValueError("has options, which a URL of RabbitMQ cannot have here: leave out what follows the ?")
    return url
