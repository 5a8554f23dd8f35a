"""The HTTP routes, the websocket route, and the answers to errors."""

from __future__ import annotations

import gzip
import hmac
import json
from functools import cache, lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Blueprint, Flask, Response, abort, g, render_template, request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from chatbot.protocol.chat_files import parse_chat_file
from chatbot.protocol.client_errors import ClientError, SessionNotFound
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.documents import parse_name
from chatbot.sessions.ids import session_id
from chatbot.sessions.pages import parse_before, parse_limit
from chatbot.web import client_lines, hosts, origins
from chatbot.web.answers import authorization, bearer_token, json_answer, json_text_answer, request_body
from chatbot.web.contracts.asyncapi import asyncapi
from chatbot.web.contracts.openapi import openapi
from chatbot.web.disconnects import raise_if_disconnected
from chatbot.web.error_answers import add_error_answers
from chatbot.web.limits.throttle import hold_back
from chatbot.web.openai.routes import openai
from chatbot.web.readiness import readiness
from chatbot.web.security_headers import add_security_headers
from chatbot.web.services import network, services
from chatbot.web.transports.chat_socket import ChatSocket
from chatbot.web.transports.connections import admit_address
from chatbot.web.transports.routes import transports
from chatbot.web.transports.websocket import WebSocket, create_sock

#: Bytes of a request's body, which holds a name.
MAX_BODY = 16 * 1024

#: Bytes of the file of a chat.
MAX_IMPORT = 4 * 1024 * 1024

#: The path of the websocket.
WEBSOCKET = "/chat"

routes = Blueprint("chat", __name__)
_sock = create_sock()


# The page differs only by the depth of its address.
@lru_cache(maxsize=4)
def _compressed(html: str) -> bytes:
    return gzip.compress(html.encode(), 6, mtime=0)


@routes.get("/")
@routes.get("/c/<id>")
def page(id: str = "") -> Response:  # noqa: ARG001 - the page's script reads the chat's id from the address
    """The chat page; at `/c/ID` it opens the chat with this id if the browser has it."""
    html = render_template("chat.html", model=services().settings.model)
    response = Response(html, mimetype="text/html")
    if request.accept_encodings.quality("gzip") > 0:
        response.set_data(_compressed(html))
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "no-cache"
    return response


@routes.post("/token")
def token() -> Response:
    """Creates a session for `name`, given as JSON, as a form or in the query."""
    name = parse_name({"name": _given_name()})
    services().rate_limits.new_session(network())
    session = services().sessions.create(name)
    services().metrics.sessions.inc()
    client_lines.session_created(session_id(session["token"]), network())
    return json_answer(session, cache=False)


@routes.post("/import")
def import_chat() -> Response:
    """Creates a session with the messages of an exported chat."""
    # Werkzeug reads no more.
    request.max_content_length = MAX_IMPORT
    found, limits = services(), services().settings.limits
    found.rate_limits.new_session(network())
    chat = parse_chat_file(
        request_body(),
        max_messages=limits.max_history_messages,
        max_length=limits.max_message_length,
        breathe=lambda: hold_back(0.001),
    )
    session = found.sessions.import_chat(chat, found.rate_limits.imports(network()))
    found.metrics.sessions.inc()
    client_lines.session_created(session_id(session["token"]), network())
    return json_answer(session, cache=False)


@routes.delete("/token")
def end_session() -> Response:
    """Ends the session, and deletes all that is stored of it."""
    limits = services().rate_limits
    limits.end_session(network())
    session = session_id(bearer_token() or "")
    if not services().sessions.end(session, limits.session_keys(session)):
        raise SessionNotFound
    client_lines.session_ended(session)
    return Response(status=204, headers={"Cache-Control": "no-store"})


@routes.get("/refresh_token")
def refresh_token() -> Response:
    """The session with the newest page of its history, or the one before `before`. Renews its time to live."""
    given = bearer_token()
    if not given:
        raise SessionNotFound
    before, limit = parse_before(request.args.get("before")), parse_limit(request.args.get("limit"))
    found, session = services(), session_id(given)
    raise_if_disconnected(request.environ)
    buckets = found.rate_limits.reads(session, network())
    sent = found.address_limits.begin_sending(network())
    try:
        page = found.sessions.read(session, before, limit, buckets)
        response = json_text_answer(page.to_json(given), cache=False)
    except BaseException:
        sent()
        raise
    response.call_on_close(sent)
    return response


@routes.get("/healthz")
def healthz() -> Response:
    """Liveness: this process answers."""
    return json_answer({"status": "ok"}, cache=False)


@routes.get("/readyz")
def readyz() -> Response:
    """Readiness: 200 when this process can serve a chat, else 503 with the part that fails."""
    found = services()
    ready, parts = readiness(found.partitions, found.hub, found.settings.worker.health_timeout)
    if not ready:
        failing = [
            f"redis: {parts['redis']}" if part == "redis" else part
            for part in ("redis", "redisjson", "listener")
            if parts[part] != "ok"
        ]
        parts["error"] = {"code": "not_ready", "message": f"Not ready: {', '.join(failing)}"}
    return json_answer(parts, status=200 if ready else 503, cache=False)


@routes.get("/openapi.json")
def openapi_document() -> Response:
    """The contract of the HTTP routes."""
    return json_text_answer(_contract("openapi"))


@routes.get("/asyncapi.json")
def asyncapi_document() -> Response:
    """The contract of the websocket."""
    return json_text_answer(_contract("asyncapi"))


@cache
def _contract(name: str) -> str:
    return to_json(openapi() if name == "openapi" else asyncapi())


@routes.get("/metrics")
def metrics() -> Response:
    """Prometheus text; asks for METRICS_TOKEN if that is set."""
    found = services()
    wanted = found.settings.web.metrics_token
    if wanted and not hmac.compare_digest((authorization() or "").encode(), wanted.encode()):
        raise ClientError("unauthorized", "Send METRICS_TOKEN as a bearer token", status=401)
    response = Response(found.metrics.exposition(found.shared_metrics), content_type=CONTENT_TYPE_PLAIN_0_0_4)
    response.headers["Cache-Control"] = "no-store"
    return response


@routes.before_app_request
def guard_host() -> None:
    """Refuses requests that name a host which is not served."""
    web = services().settings.web
    if not hosts.request_allowed(request, hosts.served_hosts(web.host, web.allowed_hosts)):
        raise ClientError("host_not_allowed", hosts.REFUSAL)


@routes.before_app_request
def guard_origin() -> Response | None:
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


@routes.before_request
def guard_websocket() -> None:
    """Refuses a request that is not a handshake, or beyond the limits of its address.

    Once simple-websocket has answered the handshake, HTTP statuses are not possible.
    """
    if request.endpoint != "chat.chat":
        return
    if not request.headers.get("Sec-WebSocket-Key") or request.headers.get("Sec-WebSocket-Version") != "13":
        abort(400, "This address takes websocket connections only, of version 13")
    admit_address(services(), network())
    g.socket_network = network()


@_sock.route(WEBSOCKET, bp=routes)
def chat(ws: WebSocket) -> None:
    """The websocket."""
    ChatSocket(ws, services()).run(bearer_token(), request.args.get("after"), network())


@routes.teardown_request
def count_closed_socket(_: BaseException | None) -> None:
    """After the websocket's end."""
    counted = g.pop("socket_network", None)
    if counted is not None:
        services().address_limits.close_socket(counted)


def add_routes(app: Flask) -> None:
    """Adds the routes, the websocket and the answers to errors."""
    _sock.init_app(app)
    app.register_blueprint(routes)
    app.register_blueprint(transports)
    app.register_blueprint(openai)
    add_error_answers(app)
    app.after_request(_add_headers)


def _given_name() -> Any:
    body = request_body()
    if request.is_json or body.lstrip()[:1] == b"{":
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise ClientError("invalid_name", 'The body is not valid JSON: send {"name": "Ada"}') from None
        return document.get("name") if isinstance(document, dict) else None
    try:
        # Werkzeug leaves percent signs where the bytes behind them are no text.
        unquote_to_bytes(body).decode()
        unquote_to_bytes(request.query_string).decode()
    except UnicodeDecodeError:
        raise ClientError("invalid_name", 'The name must be UTF-8: send {"name": "Ada"}') from None
    return request.form.get("name", request.args.get("name"))


def _add_headers(response: Response) -> Response:
    add_security_headers(response, request)
    origins.add_cors_headers(response, request, services().settings.web.allowed_origins)
    return response
