"""Names of hosts and paths, as settings and requests spell them."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?\Z")
_PATH_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){0,8}\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_host(name: str) -> bool:
    """Whether `name` can be the name of a host, or is an IP address."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        # Digits and dots alone can only be meant as an IPv4 address.
        return bool(_HOST_NAME.match(name)) and not re.fullmatch(r"[0-9.]+", name)


def is_path_prefix(path: str) -> bool:
    """Whether `path` can stand before all paths of a site; it has no `/` at its end, and is empty for none."""
    return bool(_PATH_PREFIX.match(path))


def origin(value: str) -> str:
    """`value`, if a browser can send it as an origin, or `*`. Raises `ValueError`."""
    if value == "*":
        return value
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{value!r} is not an origin: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or value != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(
            f"must list origins such as https://chat.example.org, separated by commas, or be *; {value!r} is neither"
        )
    if "*" in value:
        raise ValueError(f"{value!r} never matches: list each origin, or use * for all")
    if not is_host(parts.hostname) or "@" in parts.netloc:
        raise ValueError(f"{value!r} never matches: an origin has a scheme, a host name and perhaps a port")
    if port == _DEFAULT_PORTS[parts.scheme]:
        raise ValueError(
            f"{value!r} never matches, as browsers leave the default port out: write {value.rpartition(':')[0]}"
        )
    return value


def listed_host(value: str) -> str:
    """An entry of ALLOWED_HOSTS as a request's host is compared with it. Raises `ValueError`."""
    bare = value.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        if value != "*" and not is_host(value.removeprefix(".")):
            raise ValueError(
                f"{value!r} never matches: list host names such as chat.example.org, or .example.org for all of a "
                "domain, without a scheme and a port, or use * for any"
            ) from None
        return value.lower().removesuffix(".")
    return f"[{address}]" if address.version == 6 else str(address)
