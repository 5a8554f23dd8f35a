"""The routes of the transports: the websocket `/chat`; without one `/events`, and `/messages` to send and to poll."""

from __future__ import annotations

import math
from typing import Any

from flask import Blueprint, Response, g, request

from chatbot.logs import bound
from chatbot.protocol import frames
from chatbot.protocol.client_errors import ClientError, SessionNotFound
from chatbot.sessions.ids import session_id
from chatbot.web.answers import bearer_token, json_answer, json_text_answer, request_body, with_retry_after
from chatbot.web.fanout.outbox import SEND_BUFFER
from chatbot.web.limits.throttle import hold_back
from chatbot.web.services import network, services
from chatbot.web.transports.chat_socket import ChatSocket
from chatbot.web.transports.connections import admit_address
from chatbot.web.transports.event_stream import EventStream
from chatbot.web.transports.frame_handler import MAX_FRAME, FrameHandler
from chatbot.web.transports.long_poll import Poll
from chatbot.web.transports.websocket import WebSocket, create_sock, require_handshake

#: Seconds that a poll may wait: proxies often cut a request after a minute.
MAX_WAIT = 50.0

#: The path of the websocket.
WEBSOCKET = "/chat"

chat_socket = Blueprint("chat_socket", __name__)
transports = Blueprint("transports", __name__)
_sock = create_sock()


@chat_socket.before_request
def guard_websocket() -> None:
    """Refuses a request that is not a handshake, or beyond the limits of its address."""
    require_handshake()
    admit_address(services(), network())
    g.socket_network = network()


@_sock.route(WEBSOCKET, bp=chat_socket)
def chat(ws: WebSocket) -> None:
    """The websocket."""
    ChatSocket(ws, services()).run(bearer_token(), request.args.get("after"), network())


@chat_socket.teardown_request
def count_closed_socket(_: BaseException | None) -> None:
    """After the websocket's end."""
    counted = g.pop("socket_network", None)
    if counted is not None:
        services().address_limits.close_socket(counted)


@transports.get("/events")
def events() -> Response:
    """The session's frames as server-sent events, from the message in Last-Event-ID or `after` on."""
    if request.method == "HEAD":
        return Response(mimetype="text/event-stream")
    found, client = services(), network()
    after = request.headers.get("Last-Event-ID") or request.args.get("after")
    admit_address(found, client)
    try:
        response = EventStream(found, request.environ, bearer_token(), client).response(after)
    except BaseException:
        found.address_limits.close_socket(client)
        raise
    response.call_on_close(lambda: found.address_limits.close_socket(client))
    return response


@transports.get("/messages")
def poll() -> Response:
    """The frames that come within `wait` seconds, and how to ask for later ones."""
    wait = _parse_wait(request.args.get("wait", "0"))
    found, client, token = services(), network(), bearer_token()
    session = session_id(token or "")
    # A wait says nothing about how fast requests are answered.
    g.untimed = True
    admit_address(found, client)
    try:
        hold_back(found.frame_rates.request_wait(session))
        with bound(session=session if token else None), found.metrics.streams.track_inprogress():
            answer = Poll(found, request.environ, token, client).answer(request.args.get("after"), wait)
    finally:
        found.address_limits.close_socket(client)
    return _limited(json_text_answer(answer, cache=False))


def _limited(response: Response) -> Response:
    """Counts an answer that the connection may not take at once among the pages that are being sent."""
    if len(response.get_data()) > SEND_BUFFER:
        response.call_on_close(services().address_limits.begin_sending(network()))
    return response


@transports.post("/messages")
def send() -> Response:
    """Carries out one frame of a client. The answer is the `ack`, if there is one, or the error."""
    # Werkzeug reads no more.
    request.max_content_length = MAX_FRAME
    found, token = services(), bearer_token()
    session = session_id(token or "")
    found.address_limits.check_failures(network())
    hold_back(found.frame_rates.request_wait(session))
    sent: list[dict[str, Any]] = []
    try:
        if not token:
            raise SessionNotFound
        with bound(session=session):
            refusal = FrameHandler(found, session, network(), sent.append).handle(request_body().decode())
    except SessionNotFound:
        found.address_limits.count_failure(network())
        raise
    except UnicodeDecodeError:
        refusal = ClientError("invalid_frame", "The body is not UTF-8")
    if refusal is not None:
        return _frame_refused(refusal)
    if not sent:
        return Response(status=204, headers={"Cache-Control": "no-store"})
    ack, *repeated = sent
    for frame in repeated:
        ack["failure" if frame["type"] == "error" else "reply"] = frame
    return json_answer(ack, cache=False)


def _parse_wait(text: str) -> float:
    """The seconds that a poll may wait, at most `MAX_WAIT`. Raises `ClientError` `invalid_wait`."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ClientError(
            "invalid_wait",
            f"'wait' is a number of seconds, 0 or more; above {MAX_WAIT:.0f} it counts as {MAX_WAIT:.0f}",
        )
    return min(seconds, MAX_WAIT)


def _frame_refused(error: ClientError) -> Response:
    """The answer to a frame that came as a request; its error has the fields of an error frame."""
    answer = json_answer({"error": frames.error(error)}, status=error.status, cache=False)
    return with_retry_after(answer, error)
