"""The part of HTTP/1.1 that clients of a model need, with immediate detection of a disconnect."""

from __future__ import annotations

import contextlib
import http.client
import socket
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

import gevent  # type: ignore[import-untyped, unused-ignore]

from devtools.fake_model.faults import JSON
from devtools.fake_model.state import CLOSED, Record


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    keep_alive: bool
    record: Record | None = None


class Answering(Protocol):
    def arrive(self, request: Request) -> None: ...
    def handle(self, connection: Connection, request: Request) -> None: ...
    def end(self, record: Record | None, outcome: str) -> None: ...


class Connection:
    """One greenlet only reads, so that it detects a disconnect at once, and then kills the one that answers."""

    def __init__(self, server: Answering, sock: Any) -> None:
        self.server, self.sock = server, sock
        self.buffer = bytearray()
        self.request: Request | None = None
        self.worker: Any = None

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # reset by the client, or not HTTP
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := self.sock.recv(65536):
                self.buffer += data
                if self.worker is None and (request := self.next_request()):
                    self.worker = gevent.spawn(self.work, request)
        if self.worker is not None:
            self.server.end(self.request.record if self.request else None, CLOSED)
            self.worker.kill(block=False)
        self.sock.close()

    def work(self, request: Request | None) -> None:
        while request:
            self.server.handle(self, request)
            if not request.keep_alive:
                self.hang_up()
                break
            request = self.next_request()  # pipelined
        self.worker = None

    def next_request(self) -> Request | None:
        """Take a request from the buffer, None while it is incomplete."""
        end = self.buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        first, *lines = self.buffer[: end - 4].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "transfer-encoding" in headers:
            self.sock.sendall(b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n")
            raise ValueError("a body without a length is not supported")
        whole = end + int(headers.get("content-length", 0))
        if len(self.buffer) < whole:
            return None
        path, _, query = target.partition("?")
        keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        body = bytes(self.buffer[end:whole])
        del self.buffer[:whole]
        self.request = Request(method, path, parse_qs(query), headers, body, keep_alive)
        self.server.arrive(self.request)
        return self.request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self, status: int, headers: dict[str, Any]) -> bytes:
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.request and self.request.record:
            self.request.record.status = status
        if self.request and not self.request.keep_alive:
            lines.append("connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def answer(self, status: int, body: bytes, kind: str = JSON, **headers: Any) -> None:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send(self.head(status, {"content-type": kind, "content-length": len(body), **more}) + body)

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


def chunk(data: bytes) -> bytes:
    """A chunk of a body; nothing for empty data, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
