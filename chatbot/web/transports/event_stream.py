"""`GET /events`: a session's frames as server-sent events, for clients that no websocket reaches.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Response

from chatbot.logs import bound
from chatbot.protocol import close_codes
from chatbot.protocol.close_codes import SLOW_CLIENT, Closing
from chatbot.protocol.compact_json import to_json
from chatbot.sessions.ids import session_id
from chatbot.sessions.snapshots import Snapshot
from chatbot.web import deadlines
from chatbot.web.client_lines import SocketLines
from chatbot.web.disconnects import connection_of, has_disconnected
from chatbot.web.fanout.outbox import Outbox
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.services import Services
from chatbot.web.transports.connections import Connection

#: How a complete message begins: clients resume after its id.
_MESSAGE = re.compile(r'\{"type":"message","id":"([^"]+)"')
#: Milliseconds until a browser's EventSource connects again.
_RETRY = 1000
#: Seconds between two checks of whether the client is still there.
_CHECK_INTERVAL = 2.0
#: Seconds for what is queued to be sent at the end.
_LINGER = 2.0

_KEEP_ALIVE = b": keep-alive\n\n"


def event(frame: str) -> bytes:
    """A frame's JSON as an event; its id is that of the complete message in it, if any."""
    found = _MESSAGE.match(frame)
    return f"id: {found[1]}\ndata: {frame}\n\n".encode() if found else f"data: {frame}\n\n".encode()


def closing_event(closing: Closing) -> bytes:
    """The last event of a stream, named `close`."""
    return f"event: close\ndata: {to_json({'code': closing.code, 'reason': closing.reason})}\n\n".encode()


def chunk(data: bytes) -> bytes:
    """Data in the chunked coding of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunked_event(frame: str) -> bytes:
    """`event`, in the chunked coding."""
    return chunk(event(frame))


def _unchanged(data: bytes) -> bytes:
    return data


class EventStream:
    """One event stream. Its events go past gunicorn to an outbox, as those of a websocket do."""

    def __init__(self, services: Services, environ: dict[str, Any], token: str | None, network: str) -> None:
        self._services = services
        self._environ = environ
        self._has_token = bool(token)
        # gunicorn uses the chunked coding for the same requests.
        chunked = environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
        self._code: Callable[[bytes], bytes] = chunk if chunked else _unchanged
        farewell = self._code(closing_event(SLOW_CLIENT))
        self._outbox = Outbox(connection_of(environ), self._slow, farewell)
        self._changed = threading.Event()
        self._closing: Closing | None = None
        encode = chunked_event if chunked else event
        self._subscriber = Subscriber(session_id(token or ""), self._outbox.send, self._end, encode)
        self._connection = Connection(services, self._subscriber, network, "an event stream")
        self._lines = SocketLines(network, "an event stream")

    def response(self, after: str | None) -> Response:
        """The answer; its body lasts until the stream ends. Raises `Refused`."""
        gauge = self._services.metrics.streams
        try:
            with bound(session=self._subscriber.session):
                snapshot = self._connection.open(self._has_token, after=after)
        except BaseException:
            self._connection.close()
            raise
        gauge.inc()
        response = Response(self._run(after, snapshot), mimetype="text/event-stream")
        response.headers["Cache-Control"] = "no-store, no-transform"
        # nginx would hold the events back.
        response.headers["X-Accel-Buffering"] = "no"
        response.call_on_close(gauge.dec)
        response.call_on_close(self._finished)
        return response

    def _run(self, after: str | None, snapshot: Snapshot) -> Iterator[bytes]:
        """Sends the events; gunicorn writes the headers for the empty first item."""
        yield b""
        deadlines.allow(None)
        with bound(session=self._subscriber.session):
            self._subscriber.send(self._code(b"retry: %d\n\n" % _RETRY))
            if not self._connection.replay(snapshot, self._outbox):
                self._end(close_codes.SLOW_CLIENT)
            self._lines.opened(after, snapshot.recovered)
            del snapshot
            self._wait()
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Sends the last event, and what is queued."""
        self._services.hub.detach(self._subscriber)
        if self._closing is not None and not self._outbox.slow:
            self._subscriber.send(self._code(closing_event(self._closing)))
        if not self._outbox.wait_until_below(1, _LINGER) or self._outbox.slow:
            # gunicorn's end of the body must not wait for a client that does not read.
            self._outbox.abort()

    def _wait(self) -> None:
        """Waits for the end of the stream, and sends comments so that proxies leave it open."""
        interval = self._services.settings.web.ping_interval
        lifetime = self._connection.lifetime
        due = time.monotonic() + interval
        while self._closing is None and not self._outbox.closed and not has_disconnected(self._environ):
            self._changed.wait(max(min(lifetime.until_check(), due - time.monotonic(), _CHECK_INTERVAL), 0))
            if self._closing is None and lifetime.over():
                self._end(close_codes.EXPIRED)
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                self._subscriber.send(self._code(_KEEP_ALIVE))

    def _slow(self) -> None:
        self._services.metrics.slow_clients.inc()
        self._end(SLOW_CLIENT)

    def _end(self, closing: Closing) -> None:
        """Ends the stream, without blocking."""
        self._closing = self._closing or closing
        self._changed.set()

    def _finished(self) -> None:
        with bound(session=self._subscriber.session):
            self._connection.close()
            # Left open, the connection would delay a shutdown.
            self._outbox.abort()
            self._lines.closed(self._closing.code if self._closing else 1006, self._subscriber.frames_sent)
