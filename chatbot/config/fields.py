"""marshmallow fields that turn a setting's text into its value, or say what is wrong with it."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import limits
from marshmallow import ValidationError, fields, validate

from chatbot.config.host_names import is_host, is_path_prefix, listed_host, origin
from chatbot.config.redis_urls import checked_redis_url

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
Rates = tuple[limits.RateLimitItem, ...]

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+\Z")
#: Those of a request to a model server.
_HEADERS_IN_USE = {
    *("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host"),
    *("expect", "te", "transfer-encoding", "upgrade", "user-agent"),
}


class Parsed(fields.Field[Any]):
    """A field read by a function, whose `ValueError` becomes the message."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        super().__init__()
        self._read = read

    def _deserialize(self, value: str, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return self._read(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


def text() -> fields.Field[Any]:
    return fields.String()


def credential() -> fields.Field[Any]:
    """A text that is sent in an HTTP header. No error repeats it."""

    def read(raw: str) -> str:
        if not _HEADER_VALUE.match(raw):
            raise ValueError("must be one line of plain ASCII characters without spaces: copy it again")
        return raw

    return Parsed(read)


def login() -> fields.Field[Any]:
    """`user:password`, or several of them, separated by commas. No error repeats it."""

    def read(raw: str) -> str:
        if not all(user and password for user, _, password in (part.partition(":") for part in raw.split(","))):
            raise ValueError("must be user:password")
        if not raw.isprintable():
            raise ValueError("must be one line, without control characters")
        return raw

    return Parsed(read)


def callable_name() -> fields.Field[Any]:
    """`module:attribute`, both perhaps with dots."""

    def read(raw: str) -> str:
        module, colon, attribute = raw.partition(":")
        if not colon or not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            raise ValueError(f"must be a module and a function in it, such as bot:reply or my.bot:reply, not {raw!r}")
        return raw

    return Parsed(read)


def integer(low: int, high: int) -> fields.Field[Any]:
    """A whole number from `low` to `high`."""
    return fields.Integer(
        error_messages={"invalid": "must be a whole number, not {input!r}"},
        validate=validate.Range(low, high, error="must be from {min} to {max}, not {input}"),
    )


def fraction(low: float, high: float) -> fields.Field[Any]:
    """A number from `low` to `high`."""

    def read(raw: str) -> float:
        value = _number(raw, f"must be a number, not {raw!r}")
        if not low <= value <= high:
            raise ValueError(f"must be from {low:g} to {high:g}, not {raw}")
        return value

    return Parsed(read)


def seconds(*, or_zero: bool = False) -> fields.Field[Any]:
    """A duration above 0, or 0 as well with `or_zero`."""

    def read(raw: str) -> float:
        value = _number(raw, f"must be a number of seconds, not {raw!r}")
        if not 0 < value < 1e7 and not (or_zero and value == 0):
            raise ValueError(f"must be more than 0 seconds and below 10 million, not {raw}")
        return value

    return Parsed(read)


def boolean() -> fields.Field[Any]:
    return fields.Boolean(
        truthy={"true", "1", "yes", "on"},
        falsy={"false", "0", "no", "off"},
        error_messages={"invalid": "must be true or false, not {input!r}"},
        pre_load=str.lower,
    )


def choice(*choices: str) -> fields.Field[Any]:
    """One of `choices`, in any case."""

    def read(raw: str) -> str:
        found = next((choice for choice in choices if choice.lower() == raw.lower()), None)
        if found is None:
            raise ValueError(f"must be one of {', '.join(choices)}, not {raw!r}")
        return found

    return Parsed(read)


def host() -> fields.Field[Any]:
    """A host name or an IP address, without a port; an IPv6 address may have brackets, which are removed."""

    def read(raw: str) -> str:
        bare = raw[1:-1] if raw.startswith("[") and raw.endswith("]") and ":" in raw else raw
        if not is_host(bare):
            raise ValueError(f"must be a host name or an IP address, not {raw!r}")
        return bare

    return Parsed(read)


def path_prefix() -> fields.Field[Any]:
    """The path below which a site is served, such as /chat-app; `/` for none."""

    def read(raw: str) -> str:
        prefix = raw.rstrip("/")
        if not is_path_prefix(prefix):
            raise ValueError("must be a path such as /chat-app: letters, digits and . _ ~ - after each /")
        return prefix

    return Parsed(read)


def header() -> fields.Field[Any]:
    """The name of an HTTP header; `off` for none."""

    def read(raw: str) -> str:
        if not _HEADER.match(raw) or raw.lower() in _HEADERS_IN_USE:
            raise ValueError(f"must be the name of a header that has no other use, or off, not {raw!r}")
        return "" if raw.lower() == "off" else raw

    return Parsed(read)


def redis_host() -> fields.Field[Any]:
    """A host, with its port or without."""

    def read(raw: str) -> str:
        if "://" in raw or "/" in raw:
            raise ValueError("must be a host name; a whole address goes into REDIS_URL")
        if "@" in raw:
            raise ValueError("must be a host name; a login goes into REDIS_USER and REDIS_PASSWORD")
        name, _, port = raw.rpartition(":")
        has_port = port.isdecimal() and (name.startswith("[") or ":" not in name) and bool(name)
        bare = (name if has_port else raw).removeprefix("[").removesuffix("]")
        if not is_host(bare) or (has_port and not 0 < int(port) < 65536):
            raise ValueError(f"must be a host name or an IP address, with a port or without, not {raw!r}")
        return raw

    return Parsed(read)


def rates() -> fields.Field[Any]:
    """One rate or several, in the notation of the package `limits`."""

    def read(raw: str) -> Rates:
        try:
            found = tuple(limits.parse_many(raw))
        except ValueError:
            found = ()
        if not found or any(rate.amount < 1 or rate.get_expiry() < 1 for rate in found):
            raise ValueError(f"must be a rate such as 30/minute, or several such as 5/second;100/hour, not {raw!r}")
        return found

    return Parsed(read)


def proxies() -> fields.Field[Any]:
    """Networks, or a number of proxies."""

    def read(raw: str) -> Networks | int:
        if raw.isdecimal() and int(raw) < 100:
            return int(raw)
        try:
            networks = tuple(ipaddress.ip_network(part, strict=False) for part in _listed(raw))
        except ValueError as error:
            raise ValueError(
                "must list addresses or networks of proxies such as 10.0.0.0/8, separated by commas, "
                f"or be the number of proxies in front: {error}"
            ) from None
        for network in networks:
            if network.prefixlen == 0:
                raise ValueError(f"{network} trusts every client to name its own address: list your proxies")
        return networks

    return Parsed(read)


def origins() -> fields.Field[Any]:
    """Origins as a browser sends them, or `*`."""

    def read(raw: str) -> tuple[str, ...]:
        return tuple(origin(value.rstrip("/")) for value in _listed(raw))

    return Parsed(read)


def hosts() -> fields.Field[Any]:
    """Host names as in a Host header without the port, `.domain` for a domain and all names below it, or `*`."""

    def read(raw: str) -> tuple[str, ...]:
        return tuple(listed_host(value) for value in _listed(raw))

    return Parsed(read)


def certificate() -> fields.Field[Any]:
    """One path, or two. Only the worker needs the files, and checks them."""

    def read(raw: str) -> tuple[str, ...]:
        paths = tuple(_listed(raw))
        if not 1 <= len(paths) <= 2:
            raise ValueError("must be one path, or those of a certificate and its key, separated by a comma")
        return paths

    return Parsed(read)


def redis_url(encode: str, check: Callable[[str, str], str] = checked_redis_url) -> fields.Field[Any]:
    """A Redis or Sentinel URL; `host:port` alone will do, as the tutorial had it. `encode`: see `checked_redis_url`."""
    return Parsed(lambda raw: check(raw, encode))


def url_list(*schemes: str) -> fields.Field[Any]:
    """Different URLs, separated by commas. They may hold passwords: no error repeats any of them."""

    def read(raw: str) -> tuple[str, ...]:
        urls = tuple(_checked_url(part, schemes) for part in _listed(raw))
        if not urls:
            raise ValueError("names no address")
        if len(set(urls)) < len(urls):
            raise ValueError("names the same address twice")
        return urls

    return Parsed(read)


def _checked_url(value: str, schemes: Sequence[str]) -> str:
    """`value`, if it is a URL of one of `schemes`. Raises `ValueError`."""
    if value.partition("://")[0] not in schemes:
        raise ValueError(f"must begin with one of {', '.join(f'{scheme}://' for scheme in schemes)}")
    if re.search(r"[\x00-\x20\x7f]", value):
        raise ValueError("holds a space or a control character: percent-encode the password, or that character")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: check the host and the port, and percent-encode the password") from None
    # An @ may begin a part of the path, or follow a name in it, but not where a port before it may be a password.
    misplaced = "@" in parts.query or (port is not None and "@" not in parts.netloc and re.search("[^/]@", parts.path))
    if "#" in value and "@" in value.partition("#")[2]:
        misplaced = True
    if misplaced:
        raise ValueError("holds one of the characters # / ? @ where no URL can: percent-encode the password")
    if "#" in value:
        raise ValueError("holds a #: no part behind it reaches a server, leave it out or percent-encode it")
    if not parts.hostname:
        raise ValueError("names no host")
    if not is_host(parts.hostname):
        raise ValueError("names a host that cannot exist")
    return value


def _listed(raw: str) -> list[str]:
    return [part.strip() for part in raw.split(",") if part.strip()]


def _number(raw: str, problem: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise ValueError(problem) from None
    if not math.isfinite(value):
        raise ValueError(problem)
    return value
