"""All routes of the application, with what goes before and after each: guards, errors, headers."""

from __future__ import annotations

from flask import Flask, Response, abort, request

from chatbot.protocol.client_errors import ClientError
from chatbot.web import hosts, origins
from chatbot.web.error_answers import add_error_answers
from chatbot.web.openai.routes import openai
from chatbot.web.routes import operations, page, sessions
from chatbot.web.security_headers import add_security_headers
from chatbot.web.services import services
from chatbot.web.transports.routes import chat_socket, transports


def add_routes(app: Flask) -> None:
    """Adds the routes, the websockets and the answers to errors."""
    app.before_request(_guard_host)
    app.before_request(_guard_origin)
    for blueprint in (page.routes, sessions.routes, operations.routes, chat_socket, transports, openai):
        app.register_blueprint(blueprint)
    add_error_answers(app)
    app.after_request(_add_headers)


def _guard_host() -> None:
    """Refuses requests that name a host which is not served."""
    web = services().settings.web
    if not hosts.request_allowed(request, hosts.served_hosts(web.host, web.allowed_hosts)):
        raise ClientError("host_not_allowed", hosts.REFUSAL)


def _guard_origin() -> Response | None:
    """Refuses requests from pages of other origins, and answers preflights."""
    if not origins.is_host(request.environ.get("HTTP_HOST", "x")):
        abort(400, "The Host header is not a valid host name")
    if not origins.is_guarded(request.path):
        return None
    if not origins.origin_allowed(request, services().settings.web.allowed_origins):
        abort(403, "This page's origin may not connect: see ALLOWED_ORIGINS and TRUSTED_PROXIES")
    if request.method == "OPTIONS":
        return Response(status=204)
    return None


def _add_headers(response: Response) -> Response:
    add_security_headers(response, request)
    origins.add_cors_headers(response, request, services().settings.web.allowed_origins)
    return response
