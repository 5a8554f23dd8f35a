"""The load: clients of the chat's websocket in one event loop that check and count every reply.

Each has one message without a reply at a time. It checks that the next reply belongs to that message, that the deltas
add up to its text, and that none comes twice; `calibration.py` measures what that costs.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from bench.paced_model import STAMP_ROUND, STAMP_UNIT, stamp_now
from devtools.harness.delivery import Delivery

#: Seconds after which an acknowledged message without a reply counts as lost.
LOST_AFTER = 30.0
#: Handshakes at once: fewer than a listener's backlog.
_HANDSHAKES = 200
#: Sockets from one address: an address has some 28 000 ports to one destination.
_SOCKETS_PER_ADDRESS = 5_000
_STAMP_DIGITS = 7
#: Seconds for the event loop to close sockets that were cut.
_CLOSING = 0.1


@dataclass
class Result(Delivery):
    """The figures of one conversation period. Times are in seconds."""

    seconds: float = 0.0
    #: From the message to its whole reply, for replies within the measured time.
    latencies: list[float] = field(default_factory=list)
    #: From the message to the first delta.
    first: list[float] = field(default_factory=list)
    #: From the sending of a token by the model to its arrival at the client.
    token_delays: list[float] = field(default_factory=list)
    sent: int = 0

    @property
    def rate(self) -> float:
        """Replies a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def trouble(self) -> str:
        return (
            f"{self.lost} lost, {self.doubled} doubled, {self.out_of_order} out of order, {len(self.problems)} errors"
        )


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which the share `q` of the values lies; 0.0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)] if ordered else 0.0


class Talk:
    """A period in which clients send; only replies between `open` and `close` are measured."""

    def __init__(self) -> None:
        self.result = Result()
        self.sending = True
        self.measuring = False
        self.waiting = 0
        self._began = 0.0

    def open(self) -> None:
        self._began = time.monotonic()
        self.measuring = True

    def close(self) -> None:
        self.measuring = False
        self.result.seconds = time.monotonic() - self._began

    @property
    def so_far(self) -> int:
        return len(self.result.latencies)


class Client(WSListener):
    """One socket of a session."""

    def __init__(self, number: int, token: str) -> None:
        self.number = number
        self.token = token
        self.session: dict[str, Any] | None = None
        self.greeted_at = 0.0
        #: Set by the greeting, or by the end of the connection.
        self.greeted = asyncio.Event()
        self.last: str | None = None
        self.frames = 0
        self.closed = asyncio.Event()
        self.on_done: Callable[[Client], None] | None = None
        self._transport: WSTransport | None = None
        self._talk: Talk | None = None
        self._count = 0
        self._id = ""
        self._asked = ""
        self._sent_at = 0.0
        self._first_at = 0.0
        self._acknowledged = False
        self._text = ""
        self._replied: set[str] = set()

    # Sending

    async def connect(self, url: str, *, after: str | None = None) -> None:
        """Connects; the greeting may arrive later."""
        address = f"ws{url.removeprefix('http')}/chat?token={self.token}"
        address += f"&after={after}" if after else ""
        host = f"127.0.0.{1 + self.number // _SOCKETS_PER_ADDRESS}"
        self.closed.clear()
        self.greeted.clear()
        self.greeted_at = 0.0
        await ws_connect(
            lambda: self,
            address,
            websocket_handshake_timeout=60,
            read_buffer_init_size=1024,
            local_addr=(host, 0),
            use_aiofastnet=False,
        )

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def say(self, talk: Talk) -> None:
        """Sends the next message; while `talk` lasts, another one follows each reply."""
        assert self._transport is not None
        self._talk = talk
        self._count += 1
        self._id = f"m{self._count}"
        self._asked = f"client {self.number} asks {self._count}"
        self._text = ""
        self._first_at = 0.0
        self._acknowledged = False
        talk.result.sent += 1
        talk.waiting += 1
        self._sent_at = time.monotonic()
        frame = f'{{"type":"message","msg":"{self._asked}","id":"{self._id}"}}'
        self._transport.send(WSMsgType.TEXT, frame.encode())

    # Receiving

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_disconnected(self, _: WSTransport) -> None:
        self.closed.set()
        self.greeted.set()
        if self._talk is not None and self._id:
            self._talk.result.problems.append(f"client {self.number}: the connection ended")

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.TEXT:
            self.frames += 1
            self.take(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def take(self, data: bytes) -> None:
        """Handles one text frame."""
        frame = json.loads(data)
        kind = frame["type"]
        if kind == "delta":
            self._take_delta(frame)
        elif kind == "message":
            self._take_message(frame)
        elif kind == "ack":
            if frame["id"] == self._id and self._talk is not None and not self._acknowledged:
                self._acknowledged = True
                self._talk.result.acknowledged += 1
        elif kind == "session":
            self.session, self.greeted_at = frame, time.monotonic()
            self.greeted.set()
        elif kind == "error" and self._talk is not None:
            self._talk.result.problems.append(f"client {self.number}: {frame}")

    def _take_delta(self, frame: dict[str, Any]) -> None:
        talk = self._talk
        if talk is None or frame["reply_to"] != self._id:
            return
        text = frame["msg"]
        if not self._first_at:
            self._first_at = time.monotonic()
        self._text = self._text[: frame["offset"]] + text
        if talk.measuring:
            now = 0
            for word in text.split():
                if len(word) == _STAMP_DIGITS and word.isdigit():
                    now = now or stamp_now()
                    talk.result.token_delays.append((now - int(word)) % STAMP_ROUND * STAMP_UNIT)

    def _take_message(self, frame: dict[str, Any]) -> None:
        now = time.monotonic()
        self.last = frame["id"]
        talk = self._talk
        if talk is None or frame["source"] != "bot":
            return
        result, reply_to = talk.result, frame["reply_to"]
        if reply_to in self._replied:
            result.doubled += 1
            return
        if reply_to != self._id:
            result.out_of_order += 1
            return
        self._replied.add(reply_to)
        self._id = ""
        talk.waiting -= 1
        result.answered += 1
        text = frame["msg"]
        if not self._acknowledged:
            result.problems.append(f"client {self.number}: a reply before its ack")
        if not text.startswith(f"You said: {self._asked} .") or (self._text and text != self._text):
            result.problems.append(f"client {self.number}: got {text[:80]!r}, by deltas {self._text[:80]!r}")
        if talk.measuring:
            result.latencies.append(now - self._sent_at)
            result.first.append((self._first_at or now) - self._sent_at)
        if self.on_done is not None:
            self.on_done(self)
        elif talk.sending:
            self.say(talk)


async def connect_all(clients: Iterable[Client], url: str) -> None:
    """Connects a bounded number of clients at a time, and waits until all have their `session` frame."""
    bound = asyncio.Semaphore(_HANDSHAKES)

    async def one(client: Client) -> None:
        async with bound:
            await client.connect(url)
            await greeted([client])

    await asyncio.gather(*(one(client) for client in clients))


async def greeted(clients: Sequence[Client]) -> None:
    """Waits until every client has its `session` frame. Raises `ConnectionError` when the server closes a socket."""
    for client in clients:
        await client.greeted.wait()
    if any(client.closed.is_set() for client in clients):
        raise ConnectionError("sockets were closed while connecting")


async def close_all(clients: Iterable[Client]) -> None:
    for client in clients:
        client.cut()
    await asyncio.gather(*(client.closed.wait() for client in clients))
    # The event loop closes the sockets in its next iteration.
    await asyncio.sleep(_CLOSING)


async def converse(
    clients: Sequence[Client],
    seconds: float,
    *,
    warm_up: float = 1.0,
    spread: float = 0.0,
    laps: Callable[[bool], None] = lambda _: None,
    during: Callable[[Talk], Any] | None = None,
) -> Result:
    """Lets clients talk; replies within `seconds`, after `warm_up` seconds, are measured.

    The first messages go out evenly over `spread` seconds: replies to users that begin together come in waves, and the
    measured time would hold one wave more or less. `laps(False)` is called when measuring begins and `laps(True)` when
    it ends; `during(talk)` is awaited meanwhile.
    """
    talk = Talk()
    for number, client in enumerate(clients):
        asyncio.get_running_loop().call_later(spread * number / len(clients), client.say, talk)
    await asyncio.sleep(max(warm_up, spread))
    laps(False)
    talk.open()
    if during is None:
        await asyncio.sleep(seconds)
    else:
        await during(talk)
    talk.close()
    laps(True)
    await drain(talk)
    return talk.result


async def drain(talk: Talk) -> None:
    """Stops sending, and waits for the replies that are still missing."""
    talk.sending = False
    deadline = time.monotonic() + LOST_AFTER
    while talk.waiting and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    talk.result.lost = talk.waiting
