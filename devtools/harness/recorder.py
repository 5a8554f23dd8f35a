"""A relay between a worker and a model server that records the bytes and changes nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from devtools.harness.ports import free_port

#: Seconds for a thread of the relay to end once its sockets are shut down.
_JOIN_TIMEOUT = 10.0


class Exchange:
    """One connection: the bytes of each side, and which side ended it first."""

    def __init__(self, worker: socket.socket, server: socket.socket) -> None:
        self.sent = bytearray()
        self.received = bytearray()
        self.ended_by: str | None = None
        self.worker = worker
        self.server = server

    def requests(self) -> list[dict[str, Any]]:
        """The JSON bodies that were posted on this connection, in order."""
        bodies, rest = [], bytes(self.sent)
        while b"\r\n\r\n" in rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
            length = int(lengths[0].partition(b":")[2])
            body, rest = rest[:length], rest[length:]
            if len(body) == length:
                bodies.append(json.loads(body))
        return bodies


class Recorder:
    """Listens on a free port and relays to the host and port of `url` within the `with`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        self.exchanges: list[Exchange] = []
        self._threads = [threading.Thread(target=self._accept)]

    def requests(self) -> list[dict[str, Any]]:
        """Every body that was posted; those of one connection are in order."""
        return [body for exchange in self.exchanges for body in exchange.requests()]

    def _accept(self) -> None:
        # Ends when the listener is shut down.
        with contextlib.suppress(OSError):
            while True:
                worker, _ = self._listener.accept()
                exchange = Exchange(worker, socket.create_connection(self._target))
                self.exchanges.append(exchange)
                for side in ("worker", "server"):
                    thread = threading.Thread(target=self._relay, args=(exchange, side))
                    self._threads.append(thread)
                    thread.start()

    def _relay(self, exchange: Exchange, side: str) -> None:
        source, target, recorded = exchange.worker, exchange.server, exchange.sent
        if side == "server":
            source, target, recorded = exchange.server, exchange.worker, exchange.received
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                recorded += data
                target.sendall(data)
        exchange.ended_by = exchange.ended_by or side
        for sock in (exchange.worker, exchange.server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        deadline = time.monotonic() + _JOIN_TIMEOUT
        self._threads[0].join(_JOIN_TIMEOUT)
        for exchange in self.exchanges:
            for sock in (exchange.worker, exchange.server):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(max(0.0, deadline - time.monotonic()))
        for exchange in self.exchanges:
            exchange.worker.close()
            exchange.server.close()
