"""Which origins' pages may use the chat, and the CORS headers for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Request, Response

#: Paths that pages of other origins may not use. CORS does not cover websockets.
CORS_PATHS = ("/token", "/import", "/refresh_token", "/events", "/messages")
GUARDED = (*CORS_PATHS, "/chat")
#: Before the paths of the OpenAI interfaces, which are guarded too.
OPENAI = "/v1/"
#: Before the paths of the page's files, of which other pages may import the client.
STATIC = "/static/"

#: Seconds for which a browser may cache the answer to a preflight.
_PREFLIGHT_AGE = "3600"

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?\Z|\[[0-9A-Fa-f:.]+\](:\d+)?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_host(text: str) -> bool:
    """Whether `text` can be a Host header: a name or an address, with a port or without."""
    return bool(_HOST.match(text))


def origin_allowed(request: Request, allowed: Sequence[str]) -> bool:
    """Whether the page that sent the request is of its own origin, or of one in `allowed`."""
    origin = request.headers.get("Origin")
    if origin is None:
        # Not a browser; such a client could claim any origin.
        return True
    return _is_listed(origin, allowed) or _same_origin(origin, request.scheme, request.host)


def is_guarded(path: str) -> bool:
    """Whether pages of other origins may not use the path."""
    return path in GUARDED or path.startswith(OPENAI)


def add_cors_headers(response: Response, request: Request, allowed: Sequence[str]) -> None:
    """Lets pages of the origins in `allowed` read the answer."""
    if not allowed or not (request.path in CORS_PATHS or request.path.startswith((OPENAI, STATIC))):
        return
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is None or not _is_listed(origin, allowed):
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "DELETE, GET, POST"
        # OpenAI's client for browsers sends headers of its own.
        more = ", *" if request.path.startswith(OPENAI) else ""
        response.headers["Access-Control-Allow-Headers"] = f"Authorization, Content-Type, Last-Event-ID{more}"
        response.headers["Access-Control-Max-Age"] = _PREFLIGHT_AGE
    else:
        response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"


def _is_listed(origin: str, allowed: Sequence[str]) -> bool:
    return "*" in allowed or origin.lower() in (listed.lower() for listed in allowed)


def _same_origin(origin: str, scheme: str, host: str) -> bool:
    try:
        parts, own = urlsplit(origin), urlsplit(f"//{host}")
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            return False
        if scheme == "https" and parts.scheme != "https":
            return False
        # Behind a proxy that ends TLS and does not report it, an https page seems to come to http.
        default = _DEFAULT_PORTS[parts.scheme]
        return parts.hostname == own.hostname and (parts.port or default) == (own.port or default)
    except ValueError:
        return False
