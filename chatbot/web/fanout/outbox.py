"""The sending side of one websocket or event stream: a bounded queue of bytes in front of a non-blocking socket."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from wsproto.frame_protocol import FrameProtocol

from chatbot.protocol.close_codes import SLOW_CLIENT, Closing

#: Bytes that may be queued for a slow client, beyond what the operating system buffers.
MAX_QUEUED = 1024 * 1024
#: Bytes that the operating system buffers for one connection: without a limit it grows to several MB.
SEND_BUFFER = 128 * 1024
#: Seconds without progress after which a client with queued bytes is cut off.
SEND_DEADLINE = 20.0

#: The first byte of a text frame that is the last of its message.
_FINAL_TEXT = 0x81


def text_frame(text: str) -> bytes:
    """The bytes of a text frame; the same bytes serve every socket that gets the frame.

    RFC 6455, 5.2: the length in 7 bits, or behind 126 in two bytes, or behind 127 in eight; a server masks nothing.
    """
    data = text.encode()
    size = len(data)
    if size < 126:
        return bytes((_FINAL_TEXT, size)) + data
    if size < 65536:
        return bytes((_FINAL_TEXT, 126)) + size.to_bytes(2, "big") + data
    return bytes((_FINAL_TEXT, 127)) + size.to_bytes(8, "big") + data


def close_frame(closing: Closing) -> bytes:
    """The bytes of a close frame."""
    # Its own encoder: one that has sent a close frame takes nothing more.
    return bytes(FrameProtocol(client=False, extensions=[]).close(closing.code, closing.reason))


class Outbox:
    """Sends whole frames, in order, without blocking the caller.

    simple-websocket calls `socket.send` once per frame, from two threads, without a loop, a lock or a deadline: a slow
    reader gets a torn stream. An outbox sends what the connection takes at once and queues the rest; a thread that
    lives while something is queued sends it. A client that leaves more than `MAX_QUEUED` bytes queued, or takes nothing
    for `SEND_DEADLINE` seconds, is closed with `SLOW_CLIENT`.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_slow: Callable[[], None] = lambda: None,
        farewell: bytes = close_frame(SLOW_CLIENT),
    ) -> None:
        """`on_slow` is called, without blocking, when the client is cut off for reading too slowly.

        `farewell` are the last bytes that such a client gets.
        """
        self._sock = sock
        self._farewell = farewell
        # gevent's socket would wait, in Python, where the plain socket beneath it answers at once.
        self._plain: Any = getattr(sock, "_sock", sock)
        self._tls = isinstance(sock, ssl.SSLSocket)
        self._lock = threading.Lock()
        # A deque only once bytes are queued: most sockets never need one, and it is the largest part of an outbox.
        self._queue: deque[memoryview] | tuple[()] = ()
        self._queued = 0
        self._writing = False
        self._closed = False
        self._progress = threading.Event()
        self.on_slow = on_slow
        #: The client was found too slow; nothing is sent after the close frame.
        self.slow = False
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued

    @property
    def closed(self) -> bool:
        return self._closed

    def send(self, data: bytes) -> int:
        """Sends `data` after what is queued, without blocking. Raises `OSError` on a closed or broken connection."""
        with self._lock:
            if self._closed:
                raise BrokenPipeError("the connection is closed")
            if self.slow:
                return len(data)
            sent = 0 if self._queue else self._send_now(data)
            if sent == len(data):
                return sent
            self._enqueue(memoryview(data)[sent:])
            slow = self._queued > MAX_QUEUED
            if slow:
                self._cut_off()
        if slow:
            self.on_slow()
        return len(data)

    def wait_until_below(self, size: int, timeout: float) -> bool:
        """Waits until fewer than `size` bytes are queued; false after `timeout` seconds or on a closed connection."""
        deadline = time.monotonic() + timeout
        while self._queued >= size and not self._closed:
            self._progress.clear()
            if self._queued < size:
                break
            if not self._progress.wait(max(deadline - time.monotonic(), 0)):
                return False
        return not self._closed

    def abort(self, how: int = socket.SHUT_RDWR) -> None:
        """Drops what is queued and shuts the connection down; from here on `send` raises `BrokenPipeError`.

        Threads that read from the connection or write to it wake up.
        """
        with self._lock:
            self._closed = True
            self._queue = ()
            self._queued = 0
            self._progress.set()
        with contextlib.suppress(OSError):
            self._sock.shutdown(how)

    def _send_now(self, data: bytes | memoryview) -> int:
        """Sends what the connection takes without waiting; how many bytes. The lock is held."""
        if self._tls:
            return 0
        sent: int = 0
        try:
            sent = self._plain.send(data, socket.MSG_DONTWAIT)
            while sent < len(data):
                sent += self._plain.send(memoryview(data)[sent:], socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return sent
        return sent

    def _enqueue(self, view: memoryview) -> None:
        """The lock is held."""
        self._queue = self._queue or deque()
        self._queue.append(view)
        self._queued += len(view)
        if not self._writing:
            self._writing = True
            threading.Thread(target=self._write, name="writer", daemon=True).start()

    def _cut_off(self) -> None:
        """Replaces the queue by the rest of the frame under way and the farewell. The lock is held."""
        self.slow = True
        first = next(iter(self._queue))
        end = memoryview(self._farewell)
        self._queue = deque((first, end))
        self._queued = len(first) + len(end)

    def _write(self) -> None:
        """Sends what is queued, then ends."""
        while True:
            try:
                writable = wait_for(self._sock, select.POLLOUT, SEND_DEADLINE)
                with self._lock:
                    if not writable or not self._queue:
                        self._writing = False
                        break
                    self._send_first(self._queue)
                    if not self._queue:
                        self._writing = False
                        return
            except (OSError, ValueError):
                # The connection broke, or was closed.
                self._writing = False
                self.abort()
                return
        if self._queue:
            if not (self._closed or self.slow):
                self.slow = True
                self.on_slow()
            self.abort()

    def _send_first(self, queue: deque[memoryview]) -> None:
        """Sends of the queue's first entry what the connection takes. The lock is held."""
        view = queue[0]
        sent = self._sock.send(view) if self._tls else self._send_now(view)
        self._queued -= sent
        if sent == len(view):
            queue.popleft()
        else:
            queue[0] = view[sent:]
        self._progress.set()


def wait_for(sock: socket.socket, event: int, timeout: float) -> bool:
    """Whether the poll event occurs within `timeout` seconds."""
    poll = select.poll()
    poll.register(sock.fileno(), event)
    return bool(poll.poll(max(timeout, 0) * 1000))
