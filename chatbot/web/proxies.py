"""The address, scheme and host of a client behind proxies, taken from the headers of trusted proxies only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from chatbot.config import Networks

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def trust_proxies(app: Flask, trusted: Networks | int) -> None:
    """Gives `app` the address, scheme and host that `trusted` proxies report."""
    if trusted:
        app.wsgi_app = _ProxyHeaders(app.wsgi_app, trusted)  # type: ignore[method-assign]


def client_address(peer: str, forwarded: Sequence[str], trusted: Networks | int) -> str:
    """The nearest address that is not a trusted proxy's; `forwarded` as in X-Forwarded-For, the farthest first."""
    address = peer
    left = trusted if isinstance(trusted, int) else None
    for claimed in reversed(forwarded):
        believed = left > 0 if left is not None else _is_in(address, trusted)  # type: ignore[arg-type]
        nearer = _address(claimed)
        if not believed or nearer is None:
            break
        address = nearer
        left = left - 1 if left is not None else None
    return address


class _ProxyHeaders:
    """WSGI middleware."""

    def __init__(self, app: WSGIApplication, trusted: Networks | int) -> None:
        self._direct = app
        # Takes scheme and host from the nearest proxy.
        self._proxied = ProxyFix(app, x_for=0, x_proto=1, x_host=1)
        self._trusted = trusted

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR", "")
        if not isinstance(self._trusted, int) and not _is_in(peer, self._trusted):
            return self._direct(environ, start_response)
        forwarded = [part for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
        environ["REMOTE_ADDR"] = client_address(peer, forwarded, self._trusted)
        return self._proxied(environ, start_response)


def _is_in(address: str, networks: Networks) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


def _address(text: str) -> str | None:
    """The address in an entry of X-Forwarded-For, which may have brackets and a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
