"""The address of a client behind proxies, and the scheme, host and path that it used; from trusted proxies only."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.utils import redirect

from chatbot.config import Networks
from chatbot.config.host_names import is_path_prefix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)


def trust_proxies(app: Flask, trusted: Networks | int, prefix: str) -> None:
    """Gives `app` the address, scheme, host and path prefix that `trusted` proxies report; `prefix` is SCRIPT_NAME."""
    app.wsgi_app = _ProxyHeaders(app.wsgi_app, trusted, prefix)  # type: ignore[method-assign]


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

    def __init__(self, app: WSGIApplication, trusted: Networks | int, prefix: str) -> None:
        self._direct = app
        # Takes scheme and host from the nearest proxy.
        self._proxied = ProxyFix(app, x_for=0, x_proto=1, x_host=1)
        self._trusted = trusted
        self._prefix = prefix
        self._warned = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        peer = environ.get("REMOTE_ADDR", "")
        forwarded = [part for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
        believed = self._trusted if isinstance(self._trusted, int) else _is_in(peer, self._trusted)
        if forwarded and not self._trusted and not self._warned:
            self._warned = True
            logger.warning(
                "%s sends X-Forwarded-For and is not trusted, so that all of its users count as one address: if it is "
                "your proxy, name it in TRUSTED_PROXIES",
                peer or "a client",
            )
        app, prefix = self._direct, self._prefix
        if believed:
            environ["REMOTE_ADDR"] = client_address(peer, forwarded, self._trusted)
            app, prefix = self._proxied, _forwarded_prefix(environ) or prefix
        if prefix and not _remove_prefix(environ, prefix):
            return redirect(f"{prefix}/{_query(environ)}", 308)(environ, start_response)
        return app(environ, start_response)


def _forwarded_prefix(environ: WSGIEnvironment) -> str:
    """The prefix that the nearest proxy names; '' without one."""
    prefix = str(environ.get("HTTP_X_FORWARDED_PREFIX", "")).rpartition(",")[2].strip().rstrip("/")
    return prefix if is_path_prefix(prefix) else ""


def _remove_prefix(environ: WSGIEnvironment, prefix: str) -> bool:
    """Moves the prefix from the path, where a proxy may have left it, to SCRIPT_NAME. False for the prefix alone.

    The page's addresses are relative, and would lead elsewhere from a path without `/` at its end. A handshake at a
    prefix named like the websocket is one of a proxy that removed the prefix.
    """
    path = environ.get("PATH_INFO", "")
    if path == prefix and "HTTP_SEC_WEBSOCKET_KEY" not in environ:
        return False
    environ["PATH_INFO"] = path[len(prefix) :] if path.startswith(f"{prefix}/") else path
    environ["SCRIPT_NAME"] = prefix
    return True


def _query(environ: WSGIEnvironment) -> str:
    query = environ.get("QUERY_STRING", "")
    return f"?{query}" if query else ""


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
