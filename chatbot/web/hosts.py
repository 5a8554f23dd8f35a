"""Which hosts a request may name. It stops DNS rebinding: a site turns its own name into an address of this server.

Such a page has the same origin as the server in the eyes of a browser, so origins and CORS do not stop it. But its
requests name the site's host, which no page can change.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from flask import Request

#: Always allowed: these names lead to the browser's own machine, whatever a name server answers.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
ANY = "*"

REFUSAL = "This server does not serve this host name: see ALLOWED_HOSTS"

_PORT = re.compile(r":\d*\Z")


def served_hosts(address: str, listed: Sequence[str]) -> tuple[str, ...]:
    """The hosts of a server that listens on `address`: that, loopback, and those `listed` in ALLOWED_HOSTS.

    Any host when none is listed and other machines reach the server: its names are unknown.
    """
    if not listed and not is_loopback(address):
        return (ANY,)
    own = f"[{address}]" if ":" in address else address.lower()
    return (*LOOPBACK, own, *listed)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches a server that listens on `address`."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def host_allowed(host: str, served: Sequence[str]) -> bool:
    """Whether a Host header is one of `served`, on any port. `.example.org` covers that domain and all below it."""
    name = _PORT.sub("", host.strip().lower()).removesuffix(".")
    return any(
        entry in (ANY, name) or (entry.startswith(".") and (name == entry[1:] or name.endswith(entry)))
        for entry in served
    )


def request_allowed(request: Request, served: Sequence[str]) -> bool:
    """Whether all hosts that the request names are served: its own, and the one that a trusted proxy forwards.

    A request without a Host header does not come from a browser. HTTP/1.0, as of health checks, needs none.
    """
    if "HTTP_HOST" not in request.environ and request.environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
        return False
    # Middleware of proxies.py replaces the host. A page can send X-Forwarded-Host, but not choose its Host.
    original = request.environ.get("werkzeug.proxy_fix.orig", {})
    named = (original.get("HTTP_HOST"), request.environ.get("HTTP_HOST"))
    return all(host_allowed(host, served) for host in named if host is not None)
