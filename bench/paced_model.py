"""A model server with a set latency and token rate that takes as little CPU as possible.

It serves streamed replies of the text-generation protocol and nothing else; `devtools.fake_model`, which can also fail
in many ways, takes too much CPU for benchmarks. Its settings are JSON lines on standard input, each answered by a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any, Self

import uvloop

from bench.line_process import LineProcess

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"

#: A stamp is the time in units of 0.1 ms, in seven digits; it repeats after 1 000 s.
STAMP_UNIT = 1e-4
STAMP_ROUND = 10_000_000


def stamp_now() -> int:
    """The present time as a stamp, from a clock that all processes of a machine share."""
    return int(time.monotonic() / STAMP_UNIT) % STAMP_ROUND


@dataclass(frozen=True)
class Pace:
    """How fast the model is. Times are in seconds."""

    #: From the request to the first token.
    first: float = 0.0
    #: Between two tokens.
    interval: float = 0.0
    #: Of a reply, at least; a reply repeats the message in full.
    tokens: int = 0
    #: Whether tokens after the repeated message are stamps.
    stamped: bool = False

    @property
    def duration(self) -> float:
        """Seconds from the request to the last token."""
        return self.first + self.interval * max(self.tokens - 1, 0)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=4096)
def _token(index: int, text: str) -> bytes:
    token = {"id": 464, "text": text, "logprob": -0.25, "special": False}
    event = {"index": index, "token": token, "generated_text": None, "details": None}
    return _chunk(b"data:%b\n\n" % json.dumps(event).encode())


def _ending(index: int, text: str) -> bytes:
    token = {"id": 50256, "text": "<|endoftext|>", "logprob": -0.25, "special": True}
    details = {"finish_reason": "eos_token", "generated_tokens": index, "seed": None}
    event = {"index": index, "token": token, "generated_text": text, "details": details}
    return _chunk(b"data:%b\n\n" % json.dumps(event).encode()) + _LAST_CHUNK


class _Lateness:
    """How late tokens were sent: the server's own share of a latency. Times are in seconds."""

    def __init__(self) -> None:
        self.tokens = 0
        self.replies = 0
        self.worst: list[float] = []

    def take(self) -> dict[str, Any]:
        late = sorted(self.worst) or [0.0]
        figures = {
            "tokens": self.tokens,
            "replies": self.replies,
            "late_p99": late[int(len(late) * 0.99)],
            "late_max": late[-1],
        }
        self.__init__()  # type: ignore[misc]
        return figures


class _Connection(asyncio.Protocol):
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = b""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) < end + length:
            return
        body, self._buffer = self._buffer[end : end + length], self._buffer[end + length :]
        self._begin(str(json.loads(body)["inputs"]))

    def _begin(self, prompt: str) -> None:
        said = prompt.removesuffix("\nBot:").rpartition("Human: ")[2]
        words = f"You said: {said} .".split(" ")
        self._words = [words[0], *(f" {word}" for word in words[1:])]
        self._pace = self._server.pace
        self._count = max(self._pace.tokens, len(self._words))
        self._sent = 0
        self._text = ""
        self._due = time.monotonic() + self._pace.first
        self._pending = _HEAD
        if self._pace.first:
            self._transport.write(_HEAD)
            self._pending = b""
        self._send()

    def _send(self) -> None:
        """Sends the tokens that are due, then schedules the next one."""
        self._timer = None
        now = time.monotonic()
        lateness = self._server.lateness
        out = self._pending
        self._pending = b""
        while self._sent < self._count and self._due <= now:
            index = self._sent
            if index < len(self._words):
                text = self._words[index]
            elif self._pace.stamped:
                text = f" {stamp_now():07}"
            else:
                text = f" w{index}"
            self._sent += 1
            self._text += text
            out += _token(self._sent, text)
            lateness.tokens += 1
            lateness.worst.append(now - self._due)
            self._due += self._pace.interval
        if self._sent == self._count:
            lateness.replies += 1
            self._transport.write(out + _ending(self._sent, self._text))
            return
        if out:
            self._transport.write(out)
        self._timer = self._server.later(self._due - time.monotonic(), self._send)


class _Server:
    def __init__(self) -> None:
        self.pace = Pace()
        self.lateness = _Lateness()
        self._loop = asyncio.get_running_loop()

    def later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(max(delay, 0), call)


async def _serve() -> None:
    server = _Server()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(partial(_Connection, server), "127.0.0.1", 0, backlog=4096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        figures = server.lateness.take()
        order = json.loads(line)
        if order:
            server.pace = Pace(**order)
        print(json.dumps(figures), flush=True)
    # The parent has ended or closed the pipe: requests in progress no longer count.
    os._exit(0)


class PacedModel:
    """The server as a child process within the `with`."""

    def __init__(self) -> None:
        self.url = ""
        self.pid = 0

    def __enter__(self) -> Self:
        self._process = LineProcess("bench.paced_model")
        self.pid = self._process.pid
        self.url = f"http://127.0.0.1:{int(self._process.read())}/generate"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def set(self, pace: Pace) -> dict[str, Any]:
        """Sets the pace from the next request on; returns the figures of `sent`."""
        return self._order(asdict(pace))

    def sent(self) -> dict[str, Any]:
        """Counts of tokens and replies since the last call, and how late tokens were, in seconds."""
        return self._order({})

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._process.ask(json.dumps(order)))
        return answer


if __name__ == "__main__":
    uvloop.run(_serve())
