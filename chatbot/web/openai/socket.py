"""The websocket of Open Responses, `/v1/responses`: one response at a time, each as the events of its stream.

The latest response with `store: false` can be continued on the connection that made it: its items are held in memory
here, and nowhere else.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

from simple_websocket import ConnectionClosed

from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol import close_codes
from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.openai.create import parse_create, parse_json
from chatbot.protocol.openai.items import Item
from chatbot.protocol.openai.response import View
from chatbot.web.client_lines import refused
from chatbot.web.error_answers import error_body
from chatbot.web.fanout.outbox import SEND_DEADLINE, text_frame
from chatbot.web.openai.body import MAX_BODY
from chatbot.web.openai.responses import batches, leave
from chatbot.web.openai.service import Created, ResponseService
from chatbot.web.openai.serving import UNAVAILABLE
from chatbot.web.services import Services
from chatbot.web.transports.websocket import WebSocket

logger = logging.getLogger(__name__)

#: Seconds that a connection may last, as the specification has it; the client then opens another one.
_LONGEST = 3600.0
#: Seconds between two checks of how long the connection has lasted.
_WAIT = 10.0
#: Bytes queued for a client at which sending pauses.
_MAX_QUEUED = 256 * 1024
#: Fields of the same request over HTTP that have no place here, each with the value that asks for nothing else: some
#: clients send it.
_HTTP_ONLY = {"stream": True, "background": False}


class ResponsesSocket:
    """Serves one websocket. `run` returns when the socket is closed."""

    def __init__(self, ws: WebSocket, services: Services, steps: ResponseService) -> None:
        self._ws = ws
        self._services = services
        self._steps = steps
        #: The latest response that is not stored: its id, and the conversation with it.
        self._latest: tuple[str, list[Item]] | None = None

    def run(self) -> None:
        hub = self._services.hub
        if len(hub) >= self._services.settings.limits.max_sockets:
            self._services.metrics.sockets_refused.labels("too_many").inc()
            self._ws.end(close_codes.TOO_MANY_SOCKETS)
            self._ws.dispose()
            return
        hub.others.add(self._ws.end)
        try:
            self._serve()
        finally:
            hub.others.discard(self._ws.end)
            self._ws.dispose()

    def _serve(self) -> None:
        self._ws.max_message_size = MAX_BODY
        self._ws.buffer_frames(1)
        delay_after = self._services.frame_rates.of_socket()
        ends = time.monotonic() + _LONGEST
        try:
            with self._services.metrics.sockets.track_inprogress():
                while self._ws.connected and not self._services.hub.leaving and time.monotonic() < ends:
                    data = self._ws.receive(timeout=_WAIT)
                    if data is None:
                        continue
                    self._handle(data)
                    time.sleep(0)
                    if delay_after is not None and (delay := delay_after(1)):
                        time.sleep(delay)
                self._ws.end(close_codes.GOING_AWAY)
        except ConnectionClosed:
            logger.debug("the connection ended")

    def _handle(self, data: str | bytes) -> None:
        try:
            self._respond(data)
        except ClientError as error:
            refused("a frame", error.code)
            self._send_error(error)
        except StoreUnavailable as error:
            self._services.metrics.redis_errors.inc()
            logger.warning("a frame could not be carried out: %s", error)
            self._send_error(ClientError("unavailable", UNAVAILABLE, status=503, retry_after=1.0))
        except ConnectionClosed:
            raise
        except Exception:
            self._services.metrics.errors.inc()
            logger.exception("a frame could not be carried out")
            self._send_error(ClientError("server_error", UNAVAILABLE, status=500))

    def _respond(self, data: str | bytes) -> None:
        document = parse_json(data)
        if document.get("type") != "response.create":
            raise ClientError("unknown_type", "The type must be response.create", param="type")
        for name, nothing in _HTTP_ONLY.items():
            if document.get(name) not in (None, nothing):
                raise ClientError("invalid_value", f"{name} has no place on the websocket", param=name)
        asked = replace(parse_create(document), stream=True)
        previous, context = asked.previous_response_id, None
        if self._latest is not None and previous == self._latest[0]:
            # A continuation that fails must not leave the connection's state behind.
            (_, context), self._latest = self._latest, None
            asked = replace(asked, previous_response_id=None)
        created = self._steps.create(asked, context)
        created = replace(created, previous=previous if context is not None else created.previous)
        with bound(session=created.known.session, message_id=created.known.request):
            view = self._send_events(created)
        if view is not None and view.status in ("completed", "incomplete") and not asked.store:
            self._latest = view.id, [*created.request.items, *view.conversation()]

    def _send_events(self, created: Created) -> View | None:
        """Sends the events of a response, and returns it once it has ended; None when the client went away."""
        ended: View | None = None
        try:
            with self._steps.follow_new(created) as follower:
                for batch in batches(follower, -1):
                    for event in batch:
                        self._send(event)
                    if not self._ws.connected or not self._ws.outbox.wait_until_below(_MAX_QUEUED, SEND_DEADLINE):
                        raise ConnectionClosed
                ended = follower.view if follower.view.ended else None
        finally:
            leave(self._steps, created, done=ended is not None)
        return ended

    def _send_error(self, error: ClientError) -> None:
        said: dict[str, Any] = {**error_body(error)}
        if error.retry_after is not None:
            said["retry_after"] = error.retry_after
        self._send({"type": "error", "status": error.status, "error": said})

    def _send(self, event: dict[str, Any]) -> None:
        try:
            self._ws.outbox.send(text_frame(to_json(event)))
        except OSError:
            raise ConnectionClosed from None
