"""The routes of a session: create or import it, read its history, end it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import Blueprint, Response, request

from chatbot.protocol.chat_files import parse_chat_file
from chatbot.protocol.client_errors import ClientError, SessionNotFound
from chatbot.protocol.documents import parse_name
from chatbot.sessions.ids import session_id
from chatbot.sessions.pages import parse_before, parse_limit
from chatbot.web import client_lines
from chatbot.web.answers import bearer_token, json_answer, json_text_answer, request_body
from chatbot.web.disconnects import raise_if_disconnected
from chatbot.web.limits.throttle import hold_back
from chatbot.web.services import network, services

#: Bytes of a request's body, which holds a name.
MAX_BODY = 16 * 1024

#: Bytes of the file of a chat.
MAX_IMPORT = 4 * 1024 * 1024

routes = Blueprint("sessions", __name__)


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
