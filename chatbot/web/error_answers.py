"""The answers to errors, as JSON, with a line in the log for each refusal."""

from __future__ import annotations

import logging

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import WebsocketMismatch
from wsproto.utilities import RemoteProtocolError

from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol.client_errors import UNAVAILABLE, ClientError
from chatbot.sessions.ids import session_id
from chatbot.web import client_lines
from chatbot.web.answers import bearer_token, json_answer, with_retry_after
from chatbot.web.metrics import WebMetrics
from chatbot.web.origins import OPENAI
from chatbot.web.transports.connections import Refused

logger = logging.getLogger(__name__)

#: Werkzeug's own sentences are for people who type addresses.
_SENTENCES = {404: "There is nothing at this address", 413: "The request is larger than this address takes"}
#: What OpenAI's clients ask for when their base URL lacks `/v1`.
_WITHOUT_BASE = ("/responses", "/chat/completions", "/models")


def add_error_answers(app: Flask) -> None:
    """Registers the answer to each kind of error."""
    app.register_error_handler(ClientError, _client_error)
    app.register_error_handler(Refused, _connection_refused)
    app.register_error_handler(StoreUnavailable, _store_unavailable)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(RemoteProtocolError, _bad_handshake)
    app.register_error_handler(ConnectionError, _client_disconnected)
    app.register_error_handler(Exception, _unexpected)


def _metrics() -> WebMetrics:
    found: WebMetrics = current_app.extensions["chatbot"].metrics
    return found


def _error(code: str, message: str, status: int, param: str | None = None) -> Response:
    error: dict[str, str | None] = {"code": code, "message": message}
    if request.path.startswith(OPENAI):
        # As OpenAI's clients expect it.
        error |= {"type": error_type(status), "param": param}
    return json_answer({"error": error}, status=status, cache=False)


def error_body(error: ClientError) -> dict[str, str | None]:
    """An error in the form of OpenAI's interfaces."""
    return {"type": error_type(error.status), "code": error.code, "message": error.message, "param": error.param}


def error_type(status: int) -> str:
    """The `type` of an error in OpenAI's interfaces."""
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


def _client_error(error: ClientError) -> Response:
    _metrics().requests_refused.labels(error.code).inc()
    _log_refusal(error.code)
    return with_retry_after(_error(error.code, error.message, error.status, error.param), error)


def _connection_refused(refusal: Refused) -> Response:
    """The refusal has been logged and counted."""
    error = refusal.error
    return with_retry_after(_error(error.code, error.message, error.status), error)


def _log_refusal(code: str) -> None:
    """Names the route: a client chooses path and method."""
    what = f"{request.method} {request.url_rule.rule}" if request.url_rule else "a request without a route"
    client_lines.refused(what, code, session=_session_of_token())


def _session_of_token() -> str | None:
    """The session that the request names; below `/v1` the bearer token is an API key."""
    token = None if request.path.startswith(OPENAI) else bearer_token()
    return session_id(token) if token else None


def _store_unavailable(error: StoreUnavailable) -> Response:
    _metrics().redis_errors.inc()
    with bound(session=_session_of_token(), code="unavailable"):
        logger.warning("a request could not be served: %s", error)
    response = _error("unavailable", UNAVAILABLE, 503)
    response.headers["Retry-After"] = "1"
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    _log_refusal(str(status))
    message = error.description or error.name
    if message == type(error).description:
        message = _SENTENCES.get(status, message)
    if status == 413 and request.max_content_length:
        message += f": at most {request.max_content_length} bytes"
    if isinstance(error, WebsocketMismatch):
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        message = (
            "This address is no websocket" if upgrade else "This address is a websocket: connect by ws:// or wss://"
        )
    if status == 404 and request.path.startswith(_WITHOUT_BASE):
        message += f": the base URL of OpenAI's clients ends in {OPENAI.rstrip('/')}"
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        message = f"This address takes {' and '.join(sorted({*error.valid_methods} - {'HEAD', 'OPTIONS'}))}"
    response = _error(error.name.lower().replace(" ", "_"), message, status)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _bad_handshake(_: RemoteProtocolError) -> Response:
    return _error("bad_request", "The websocket handshake is not valid", 400)


def _client_disconnected(error: ConnectionError) -> Response:
    """The client disconnected during the handshake; this answer reaches no client."""
    logger.info("a client disconnected: %s", error)
    return _error("bad_request", "The connection is closed", 400)


def _unexpected(error: Exception) -> Response:
    _metrics().errors.inc()
    logger.error("a request failed", exc_info=error)
    return _error("internal_error", "Something went wrong on the server", 500)
