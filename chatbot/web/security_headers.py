"""Security headers of every answer: the content security policy, HSTS and what else keeps browsers from harm."""

from __future__ import annotations

from flask import Request, Response

from chatbot.web.origins import is_host

#: Those that go out with every answer, whoever gives it.
PLAIN_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


#: Only the page's own files, and no markup made from text but by the sanitizer.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connect}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)


#: Seconds: a year of https only, and an hour of a preflight's answer.
_HSTS = "max-age=31536000"


def add_security_headers(response: Response, request: Request) -> None:
    """Adds the headers that every answer has."""
    for name, value in PLAIN_HEADERS.items():
        response.headers.setdefault(name, value)
    host = request.host
    # Some browsers do not count websockets among 'self'.
    connect = f"'self' ws://{host} wss://{host}" if is_host(host) else "'self'"
    response.headers.setdefault("Content-Security-Policy", _POLICY.format(connect=connect))
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", _HSTS)
