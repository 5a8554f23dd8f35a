"""The bytes of one websocket, and what flask-sock lacks beneath it.

simple-websocket sends with one `socket.send`, from two threads, with no loop, lock, bound or deadline: a reader that
is slow gets a torn stream. A `Transport` takes the socket's place. Its `send` never blocks and never tears: what the
connection does not take at once waits, in order, and a writer of its own sends it. What waits is bounded, and so is
the time for which the peer may take nothing; beyond either the client is slow and is cut off.

The other way, a client that sends more than is dealt with is read from more slowly, until its own sending waits.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from wsproto.frame_protocol import CloseReason, FrameProtocol

logger = logging.getLogger(__name__)

#: Bytes that may wait for a slow client, beyond what the operating system buffers.
MAX_WAITING = 1024 * 1024
#: Bytes that the operating system buffers for one connection: without a limit it grows to several MB.
SEND_BUFFER = 128 * 1024
#: Seconds for which a client may take nothing while something waits for it.
SEND_DEADLINE = 20.0
#: Seconds that a closed connection is still read from, so that the peer gets the close frame before a reset.
LINGER = 2.0

#: Bytes read at once: what a flood of small frames in them costs holds up all other sockets.
RECEIVE_BYTES = 4096
#: Bytes of a TLS record: what is left of one that is read in part, nobody would be woken for.
_TLS_RECORD = 16 * 1024
#: Frames that may wait to be dealt with before no more are read.
MAX_AHEAD = 32
#: Seconds between two looks at whether there are fewer.
_AHEAD_POLL = 0.02

#: Sockets that come to their end in the same turn of the loop, at most.
_LEAVING = threading.Semaphore(8)

_encoder = FrameProtocol(client=False, extensions=[])


def text_frame(text: str) -> bytes:
    """A websocket text frame from a server: made once for all sockets that get it."""
    return bytes(_encoder.send_data(text))


def close_frame(code: int, reason: str) -> bytes:
    """A websocket close frame."""
    return bytes(FrameProtocol(client=False, extensions=[]).close(code, reason))


class Reader:
    """The thread of a socket, for simple-websocket: without what `threading.Thread` keeps and waits for."""

    def __init__(self, target: Callable[[], None]) -> None:
        self.name = "socket"
        self._target = target

    def start(self) -> None:
        """Returns at once."""
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._target()
        except Exception:
            logger.exception("reading from a socket failed")


class Transport:
    """Stands where simple-websocket expects a socket: `send`, `recv`, `close`, `fileno`."""

    def __init__(self, sock: socket.socket, on_slow: Callable[[], None] = lambda: None) -> None:
        self._sock = sock
        # gevent's socket waits in Python for what the plain one beneath it says at once.
        self._plain: Any = getattr(sock, "_sock", sock)
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._lock = threading.Lock()
        # A deque once there is something: most sockets never need one, and it takes more than all else here.
        self._waiting: deque[memoryview] | tuple[()] = ()
        self._waiting_bytes = 0
        self._writing = False
        self._ending = False
        self._drained = threading.Event()
        self._finished = threading.Event()
        self.on_slow = on_slow
        #: Says how many frames wait to be dealt with.
        self.ahead: Callable[[], int] = int
        #: Says how long to wait after so many bytes.
        self.pace: Callable[[float], float] | None = None
        #: Set once the client was found too slow.
        self.slow = False
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""
        return self._waiting_bytes

    def send(self, data: bytes) -> int:
        """Sends all of `data` behind what waits already, without blocking. Raises `OSError` once it can't."""
        with self._lock:
            if self._ending:
                raise BrokenPipeError("the connection is closed")
            if self.slow:
                # The close frame is on its way: nothing may follow it.
                return len(data)
            view = memoryview(data)
            if not self._waiting:
                view = view[self._send_now(view) :]
            if len(view):
                self._enqueue(view)
            slow = self._waiting_bytes > MAX_WAITING and not self.slow
            if slow:
                self._cut_off()
        if slow:
            self.on_slow()
        return len(data)

    def wait_until_below(self, size: int, timeout: float) -> bool:
        """Waits until fewer than `size` bytes wait to be sent; for whoever has much to say, such as a replay."""
        deadline = time.monotonic() + timeout
        while self._waiting_bytes >= size and not self._ending:
            self._drained.clear()
            if self._waiting_bytes < size:
                break
            if not self._drained.wait(max(deadline - time.monotonic(), 0)):
                return False
        return not self._ending

    def recv(self, size: int) -> bytes:
        """What simple-websocket's reader reads; empty at the end. Waits while the client is ahead of us."""
        while not self._ending and self.ahead() > MAX_AHEAD:
            time.sleep(_AHEAD_POLL)
        data = b""
        try:
            data = self._sock.recv(_TLS_RECORD if self._tls else size)
        finally:
            if not data:
                # The end. When thousands come to it at once, they let the others' frames go first.
                with _LEAVING:
                    time.sleep(0)
        if self.pace is not None and (delay := self.pace(len(data))):
            time.sleep(delay)
        return data

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """Called by simple-websocket's reader once it reads no more: lets the peer have what it was sent.

        A connection closed with unread data is reset, and the reset may overtake a close frame.
        """
        deadline = time.monotonic() + LINGER
        while self._waiting_bytes and time.monotonic() < deadline:
            self._drained.clear()
            if self._waiting_bytes:
                self._drained.wait(0.5)
        self.abort(socket.SHUT_WR)
        with contextlib.suppress(OSError, ValueError):
            while time.monotonic() < deadline and self._wait(select.POLLIN, deadline - time.monotonic()):
                if not self._sock.recv(65536):
                    break
        self._finished.set()

    def wait_closed(self, timeout: float) -> bool:
        """Waits until the reader is done with the connection."""
        return self._finished.wait(timeout)

    def abort(self, how: int = socket.SHUT_RDWR) -> None:
        """Ends the connection: whoever reads from it or writes to it wakes up."""
        with self._lock:
            self._ending = True
            self._waiting = ()
            self._waiting_bytes = 0
            self._drained.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(how)

    def _send_now(self, view: memoryview) -> int:
        """Bytes that the connection takes without waiting. The lock is held."""
        if self._tls:
            return 0
        sent = 0
        while sent < len(view):
            try:
                sent += self._plain.send(view[sent:], socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                break
        return sent

    def _enqueue(self, view: memoryview) -> None:
        """The lock is held."""
        self._waiting = self._waiting or deque()
        self._waiting.append(view)
        self._waiting_bytes += len(view)
        if not self._writing:
            self._writing = True
            threading.Thread(target=self._write, name="writer", daemon=True).start()

    def _cut_off(self) -> None:
        """Keeps of what waits only the frame that is under way, then says why. The lock is held."""
        self.slow = True
        first = next(iter(self._waiting))
        end = memoryview(close_frame(CloseReason.TRY_AGAIN_LATER, "This client reads too slowly"))
        self._waiting = deque((first, end))
        self._waiting_bytes = len(first) + len(end)

    def _write(self) -> None:
        """Sends what waits, then ends; the next that has to wait starts another."""
        broken = False
        while True:
            try:
                writable = self._wait(select.POLLOUT, SEND_DEADLINE)
            except (OSError, ValueError):
                writable, broken = False, True
            with self._lock:
                try:
                    if not writable or not self._waiting:
                        self._writing = False
                        break
                    sent = self._send_some(self._waiting[0])
                except OSError:
                    self._writing, broken = False, True
                    break
                self._waiting_bytes -= sent
                if sent == len(self._waiting[0]):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = self._waiting[0][sent:]
                self._drained.set()
                if not self._waiting:
                    self._writing = False
                    return
        if self._waiting:
            # Nothing went out for too long, or the connection broke.
            if not (self._ending or self.slow or broken):
                self.slow = True
                self.on_slow()
            self.abort()

    def _send_some(self, view: memoryview) -> int:
        if self._tls:
            return self._sock.send(view)
        return self._send_now(view)

    def _wait(self, event: int, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._sock.fileno(), event)
        return bool(poll.poll(max(timeout, 0) * 1000))
