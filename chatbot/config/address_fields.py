"""marshmallow fields for hosts, networks, origins and URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from marshmallow import fields

from chatbot.config.fields import Parsed, listed
from chatbot.config.host_names import is_host, is_path_prefix, listed_host, origin
from chatbot.config.redis_urls import checked_redis_url, split_urls
from chatbot.store.cluster.topology import is_cluster
from chatbot.store.partition_table import server_name

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


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


def proxies() -> fields.Field[Any]:
    """Networks, or a number of proxies."""

    def read(raw: str) -> Networks | int:
        if raw.isdecimal() and int(raw) < 100:
            return int(raw)
        try:
            networks = tuple(ipaddress.ip_network(part, strict=False) for part in listed(raw))
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
        return tuple(origin(value.rstrip("/")) for value in listed(raw))

    return Parsed(read)


def hosts() -> fields.Field[Any]:
    """Host names as in a Host header without the port, `.domain` for a domain and all names below it, or `*`."""

    def read(raw: str) -> tuple[str, ...]:
        return tuple(listed_host(value) for value in listed(raw))

    return Parsed(read)


def redis_url(encode: str, check: Callable[[str, str], str] = checked_redis_url) -> fields.Field[Any]:
    """A Redis or Sentinel URL; `host:port` alone will do, as the tutorial had it. `encode`: see `checked_redis_url`."""
    return Parsed(lambda raw: check(raw, encode))


def redis_urls(encode: str) -> fields.Field[Any]:
    """Different Redis or Sentinel URLs, as `redis_url` reads each, separated by commas."""

    def read(raw: str) -> str:
        urls = tuple(checked_redis_url(part, encode) for part in split_urls(raw))
        if len({server_name(url) for url in urls}) < len(urls):
            raise ValueError("names the same Redis twice")
        if len(urls) > 1 and any(map(is_cluster, urls)):
            raise ValueError("names a Redis Cluster beside another Redis: a cluster has all sessions, or none")
        return ",".join(urls)

    return Parsed(read)


def url_list(*schemes: str) -> fields.Field[Any]:
    """Different URLs, separated by commas. They may hold passwords: no error repeats any of them."""

    def read(raw: str) -> tuple[str, ...]:
        urls = tuple(_checked_url(part, schemes) for part in listed(raw))
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
