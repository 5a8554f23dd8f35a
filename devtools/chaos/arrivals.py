"""Messages that arrive at a steady rate, whether or not earlier ones are answered or accepted: an open loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from devtools.chaos.clients import Socket
from devtools.harness.chat_client import new_session

#: Sessions, and the addresses that they share.
_SESSIONS, _ADDRESSES = 400, 8
#: Seconds between two newcomers, each from an address of its own.
_NEWCOMER_INTERVAL = 15.0
#: Seconds after which a reply counts as missing.
_LATEST = 60.0


@dataclass
class _Outcome:
    at: float
    admitted: bool


@dataclass(frozen=True)
class Reply:
    """One admitted message, in seconds since the beginning."""

    admitted: float
    #: When text came, and the whole reply last.
    frames: tuple[float, ...]

    @property
    def ended(self) -> float:
        return self.frames[-1]


class Arrivals:
    """Sends `rate` messages a second for `seconds`; after `run` the attributes hold the results."""

    def __init__(self, urls: Sequence[str], rate: float, seconds: float, sessions: int = _SESSIONS) -> None:
        self._urls = itertools.cycle(urls)
        self._rate = rate
        self._seconds = seconds
        self._sessions = sessions
        self._outcomes: list[_Outcome] = []
        self._free: list[Socket] = []
        #: By `time.monotonic`; 0 before messages are sent.
        self.began = 0.0
        #: Seconds from the `ack` to the reply, of each admitted message.
        self.waits: list[float] = []
        self.replies: list[Reply] = []
        #: Seconds until each newcomer was admitted.
        self.newcomers: list[float] = []
        self.unanswered = 0

    def run(self) -> None:
        asyncio.run(self._run())

    def shares(self, window: float, after: float) -> list[float]:
        """The admitted share of the messages of each `window` seconds, from `after` seconds on."""
        found = []
        start = after
        while start + window <= self._seconds:
            sent = [o.admitted for o in self._outcomes if start <= o.at < start + window]
            found.append(sum(sent) / max(len(sent), 1))
            start += window
        return found

    async def _run(self) -> None:
        for number in range(self._sessions):
            self._free.append(await self._open(f"127.0.2.{1 + number % _ADDRESSES}"))
        self.began = time.monotonic()
        tasks = [asyncio.ensure_future(self._newcomers())]
        for number in range(int(self._rate * self._seconds)):
            await asyncio.sleep(max(self.began + number / self._rate - time.monotonic(), 0.0))
            if self._free:
                # The first of those that are free: refusals spread over all sessions.
                tasks.append(asyncio.ensure_future(self._ask(self._free.pop(0))))
        await asyncio.gather(*tasks)

    async def _open(self, address: str) -> Socket:
        url = next(self._urls)
        token = (await asyncio.to_thread(new_session, url))["token"]
        socket = await Socket.connect(url, token, address=address)
        await socket.receive()
        return socket

    async def _ask(self, socket: Socket) -> None:
        at = time.monotonic() - self.began
        admitted = await self._send(socket) is None
        self._outcomes.append(_Outcome(at, admitted))
        if admitted:
            await self._answered(socket)
        self._free.append(socket)

    async def _send(self, socket: Socket) -> float | None:
        """Sends a message; None once it is admitted, else `retry_after` in seconds."""
        socket.send(type="message", msg="And me?")
        while True:
            frame = await socket.receive()
            if frame["type"] == "ack":
                return None
            if frame["type"] == "error":
                return float(frame["retry_after"] or 1)

    async def _answered(self, socket: Socket) -> None:
        admitted, frames = time.monotonic(), []
        try:
            while (await socket.receive(_LATEST))["type"] != "message":
                frames.append(time.monotonic())
            frames.append(time.monotonic())
            self.waits.append(frames[-1] - admitted)
            self.replies.append(Reply(admitted - self.began, tuple(at - self.began for at in frames)))
        except TimeoutError:
            self.unanswered += 1

    async def _newcomers(self) -> None:
        """One after the other, each from a new address; a refused one asks again after its `retry_after`."""
        for number in range(int(self._seconds / _NEWCOMER_INTERVAL)):
            await asyncio.sleep(max(self.began + number * _NEWCOMER_INTERVAL - time.monotonic(), 0.0))
            socket = await self._open(f"127.0.3.{1 + number}")
            asked = time.monotonic()
            while (wait := await self._send(socket)) is not None:
                await asyncio.sleep(wait)
            self.newcomers.append(time.monotonic() - asked)
            await self._answered(socket)
