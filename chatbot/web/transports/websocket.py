"""The websockets of flask-sock, adapted in one place: whole frames to slow readers, paced reading, little memory.

This module alone leans on what flask-sock and simple-websocket do inside. Each such detail has a test in
tests/unit/web/test_websocket_contract.py, which names the detail that an upgrade has moved.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flask_sock
import simple_websocket
from flask import abort, request
from wsproto.connection import Connection
from wsproto.events import CloseConnection, Event
from wsproto.utilities import RemoteProtocolError

from chatbot.protocol.close_codes import SLOW_CLIENT, TOO_BIG, Closing
from chatbot.web.disconnects import has_ended
from chatbot.web.fanout.outbox import Outbox, wait_for

logger = logging.getLogger(__name__)

#: Seconds that a closed connection is still read from, so that the peer gets the close frame before a reset.
LINGER = 2.0
#: Bytes read at once.
_RECEIVE_BYTES = 4096
#: Frames that are parsed in a row, while all other sockets wait: pings and fragments may have no payload at all.
_FRAMES_IN_A_ROW = 32
#: Seconds between two checks, during a pause, of whether the client is still there.
_PAUSE_POLL = 1.0
#: Bytes of a TLS record: poll does not report what is left of a record that was read in part.
_TLS_RECORD = 16 * 1024
#: Frames that may be buffered before no more are read, and seconds between two checks of their number.
_MAX_BUFFERED_FRAMES, _BUFFER_POLL = 32, 0.02
#: Connections whose end is handled at the same time: when thousands end at once, other sockets' frames go first.
_ENDING = threading.Semaphore(8)

#: The keys of a WSGI environ in which simple-websocket looks for the socket.
_SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")


def create_sock() -> flask_sock.Sock:
    """A flask-sock extension. Its handlers get a `WebSocket`, made with the app's SOCK_SERVER_OPTIONS."""
    # flask-sock has no option for the class: it calls the name `Server` of its module for each connection.
    flask_sock.Server = WebSocket
    return flask_sock.Sock()


def require_handshake(where: str = "This address") -> None:
    """Answers 400 to a request that is not a handshake: once simple-websocket has answered, no status is possible."""
    if not request.headers.get("Sec-WebSocket-Key") or request.headers.get("Sec-WebSocket-Version") != "13":
        abort(400, f"{where} takes websocket connections only, of version 13")


class WebSocket(simple_websocket.Server):  # type: ignore[misc]
    """One connection. `receive` is simple-websocket's; frames are sent through `outbox`."""

    # simple-websocket's attributes. `sock` is what `environ` holds, `ws` a wsproto connection.
    sock: Any
    ws: Any
    thread: Any
    environ: Any

    def __init__(
        self,
        environ: dict[str, Any],
        *,
        ping_interval: float | None = None,
        max_message_size: int | None = None,
        on_slow: Callable[[], None] = lambda: None,
    ) -> None:
        """Answers the handshake in `environ` and starts to read. `ping_interval` in seconds, the size in bytes.

        Raises `wsproto.utilities.RemoteProtocolError` for a handshake that is not valid.
        """
        # simple-websocket would accept compression, which costs memory for each socket and saves little here.
        environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
        # gunicorn's closure is part of a reference cycle, which would hold all of a closed connection.
        environ.pop("wsgi.early_hints", None)
        self._close_code: int | None = None
        for key in _SOCKET_KEYS:
            if key in environ:
                environ[key] = _Stream(environ[key], on_slow)
        super().__init__(
            environ,
            receive_bytes=_RECEIVE_BYTES,
            ping_interval=ping_interval,
            max_message_size=max_message_size,
            thread_class=_ReaderThread,
        )

    @property
    def outbox(self) -> Outbox:
        """What sends to the client; not after `dispose`."""
        stream: _Stream = self.sock
        return stream.outbox

    @property
    def close_code(self) -> int:
        """The code with which the connection was closed, by either side; 1006 when it broke. Not after `dispose`."""
        if self.outbox.slow:
            return SLOW_CLIENT.code
        return self._close_code or int(self.sock.close_code) or 1006

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        super().close(reason, message)
        self._close_code = reason or 1000

    def _handle_events(self) -> bool:
        """Called by simple-websocket for what it has read; closes the connection when a message is too long."""
        going: bool = super()._handle_events()
        if self.incoming_message_len > (self.max_message_size or math.inf):
            self._close_code = TOO_BIG.code
        return going

    def handshake(self) -> None:
        """Called by simple-websocket before it starts its thread."""
        try:
            super().handshake()
        except UnicodeError:
            raise RemoteProtocolError("a header of the handshake is not ASCII") from None
        self.sock.buffered = self.input_buffer
        if self.connected:
            # What parsed the handshake is as large as the rest of a connection, and of no use after it.
            self.ws = _Connection(self.ws.connection, self.sock)

    def throttle(self, delay: Callable[[int, int], float] | None) -> None:
        """`delay(n, m)` returns the seconds to wait after `n` bytes with `m` frames were read; None for no limit."""
        self.sock.delay = delay

    def buffer_frames(self, most: int) -> None:
        """Has no more read from the client while more than `most` of its frames wait."""
        self.sock.most_buffered = most

    def end(self, closing: Closing) -> None:
        """Sends a close frame and wakes `receive`; does nothing on a closed socket."""
        try:
            self.close(closing.code, closing.reason)
        except (simple_websocket.ConnectionClosed, OSError):
            return
        finally:
            self.event.set()

    def dispose(self) -> None:
        """Waits until the connection is closed, a few seconds at most, and frees what the socket holds.

        flask-sock's response class is a reference cycle that holds the socket until the next garbage collection.
        """
        stream: _Stream = self.sock
        # Frames are not handled any longer: what still comes is read to the end and dropped.
        stream.buffered, stream.delay = (), None
        finished = stream.finished.wait(LINGER + 0.5)
        stream.outbox.abort()
        if finished or stream.finished.wait(0.5):
            self.sock = self.ws = self.thread = self.environ = None


class _Connection:
    """Stands in for wsproto's connection, of which simple-websocket calls three methods, and counts frames."""

    __slots__ = ("_stream", "connection")

    def __init__(self, connection: Connection, stream: _Stream) -> None:
        self.connection = connection
        self._stream = stream

    def send(self, event: Event) -> bytes:
        return self.connection.send(event)

    def receive_data(self, data: bytes) -> None:
        self.connection.receive_data(data)

    def events(self) -> Iterator[Event]:
        for event in self.connection.events():
            self._stream.frames += 1
            if isinstance(event, CloseConnection):
                self._stream.close_code = event.code
            if self._stream.frames % _FRAMES_IN_A_ROW == 0:
                time.sleep(0)
            yield event


class _ReaderThread:
    """The thread in which simple-websocket reads a socket, without the state that a `threading.Thread` holds."""

    def __init__(self, target: Callable[[], None]) -> None:
        self.name = "socket"
        self._target = target

    def start(self) -> None:
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._target()
        except Exception:
            logger.exception("reading from a socket failed")


class _Stream:
    """Stands in for the server's socket, of which simple-websocket calls `fileno`, `send`, `recv` and `close`."""

    def __init__(self, sock: socket.socket, on_slow: Callable[[], None]) -> None:
        self._sock = sock
        self._receive_bytes = _TLS_RECORD if isinstance(sock, ssl.SSLSocket) else _RECEIVE_BYTES
        self.outbox = Outbox(sock, on_slow)
        #: Frames that were read and not handled yet.
        self.buffered: Sequence[Any] = ()
        self.most_buffered = _MAX_BUFFERED_FRAMES
        self.delay: Callable[[int, int], float] | None = None
        #: Frames, control frames and fragments included, in the bytes that were read last; how many bytes.
        self.frames, self._read = 0, 0
        #: The code of the client's close frame; 0 before it.
        self.close_code = 0
        #: Set once the connection is closed.
        self.finished = threading.Event()

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, data: bytes) -> int:
        return self.outbox.send(data)

    def recv(self, _: int) -> bytes:
        """Bytes from the client, empty at the end; waits while many frames are buffered, and as `delay` demands."""
        while not self.outbox.closed and len(self.buffered) > self.most_buffered:
            time.sleep(_BUFFER_POLL)
        data = b""
        try:
            # Reading what has arrived already does not block: without this a flood would hold the process.
            time.sleep(0)
            if self._pause():
                data = self._sock.recv(self._receive_bytes)
        finally:
            if not data:
                with _ENDING:
                    time.sleep(0)
        self.frames, self._read = 0, len(data)
        return data

    def _pause(self) -> bool:
        """Waits as `delay` demands for what was read last; false when the connection ended meanwhile."""
        if self.delay is None or not self._read:
            return True
        until = time.monotonic() + self.delay(self._read, self.frames)
        while self.delay is not None and (left := until - time.monotonic()) > 0:
            if self.outbox.closed or has_ended(self._sock):
                return False
            time.sleep(min(left, _PAUSE_POLL))
        return True

    def close(self) -> None:
        """Called at the end of simple-websocket's thread: sends what is queued, then reads to the end.

        A connection closed with unread data is reset, and the reset may overtake a close frame.
        """
        deadline = time.monotonic() + LINGER
        self.outbox.wait_until_below(1, LINGER)
        self.outbox.abort(socket.SHUT_WR)
        with contextlib.suppress(OSError, ValueError):
            while time.monotonic() < deadline and wait_for(self._sock, select.POLLIN, deadline - time.monotonic()):
                if not self._sock.recv(65536):
                    break
        self.finished.set()
