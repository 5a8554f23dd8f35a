"""The security headers of every answer: content security policy, HSTS and others."""

from __future__ import annotations

from flask import Request, Response

from chatbot.web.origins import is_host

#: Sent with every answer, also with those to malformed requests.
PLAIN_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

#: Allows only the page's own files, and markup from text only through the sanitizer.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connect}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)

#: Https only, for a year.
_HSTS = "max-age=31536000"


def add_security_headers(response: Response, request: Request) -> None:
    """Adds the security headers."""
    for name, value in PLAIN_HEADERS.items():
        response.headers.setdefault(name, value)
    host = request.host
    # For some browsers 'self' does not include websockets.
    connect = f"'self' ws://{host} wss://{host}" if is_host(host) else "'self'"
    response.headers.setdefault("Content-Security-Policy", _POLICY.format(connect=connect))
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", _HSTS)
