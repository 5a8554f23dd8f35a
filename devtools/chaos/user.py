"""A user who talks while parts of the chat break: reconnects, waits and resends by the rules of docs/protocol.md."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import requests

from chatbot.sessions.ids import session_id
from devtools.chaos.clients import BROKEN, Socket
from devtools.harness.chat_client import new_session

#: Seconds between two attempts to connect.
RETRY_DELAY = 0.1

T = TypeVar("T")


class Surroundings(Protocol):
    """What a user shares with the others: see `Crowd`."""

    urls: Callable[[], list[str]]
    order: Callable[[int], str]
    cut_often: bool
    lost_after: float
    restored: list[tuple[float, float]]

    def address(self, number: int) -> str: ...

    def http(self, call: Callable[..., dict[str, Any]], url: str, name: str) -> Awaitable[str]: ...


@dataclass(eq=False)
class TrackedMessage:
    """One message, its acknowledgement and its replies. Times are those of `time.monotonic()`; 0 means not yet."""

    message_id: str
    sent_at: float
    acknowledged_at: float = 0.0
    answered_at: float = 0.0
    streamed: dict[str, str] = field(default_factory=dict)
    replies: dict[str, str] = field(default_factory=dict)
    #: When a reply was begun: its first text came.
    begun: list[float] = field(default_factory=list)
    #: When a retry was promised, and in how many seconds.
    promised: list[tuple[float, float]] = field(default_factory=list)
    #: How often it was refused before it was accepted.
    refused: int = 0


class User:
    """A user who sends one message after the other in one session until `end()`."""

    def __init__(self, crowd: Surroundings, number: int) -> None:
        self.name = f"user{number}"
        self.number = number
        self.messages: list[TrackedMessage] = []
        self.problems: list[str] = []
        self.token = ""
        self.reconnects = 0
        #: The web process of the socket.
        self.url = ""
        self.done = False
        self._crowd = crowd
        self._random = random.Random(number)
        self._ending = asyncio.Event()
        self._socket: Socket | None = None
        self._last: str | None = None

    @property
    def session(self) -> str:
        """The session's id; '' before it exists."""
        return session_id(self.token) if self.token else ""

    @property
    def waiting(self) -> TrackedMessage | None:
        """The acknowledged message that has no reply yet."""
        last = self.messages[-1] if self.messages else None
        return last if last and last.acknowledged_at and not last.answered_at else None

    def end(self) -> None:
        """Sends no more messages; the reply to an accepted one is still awaited."""
        self._ending.set()

    async def run(self) -> None:
        try:
            self.token = await self._insist(lambda url: self._crowd.http(new_session, url, f"user {self.number}"))
            while not self._ending.is_set():
                await self._converse(len(self.messages))
        except Exception as error:  # noqa: BLE001 - reported to the test, which fails
            self.problems.append(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            self._disconnect()
            self.done = True

    async def _converse(self, number: int) -> None:
        message = TrackedMessage(f"m{number}", time.monotonic())
        self.messages.append(message)
        asked = f"{self._crowd.order(self.number + number)}user {self.number} asks {number}"
        cut_at = self._random.randint(1, 8) if self._crowd.cut_often and self._random.random() < 0.5 else 0
        while not message.answered_at:
            if self._ending.is_set() and not message.acknowledged_at and message.refused:
                return
            if time.monotonic() - message.sent_at > self._crowd.lost_after:
                state = "acknowledged" if message.acknowledged_at else "never acknowledged"
                self.problems.append(f"{asked}: no reply ({state})")
                # Later messages would wait behind this one.
                self._ending.set()
                return
            try:
                socket = await self._connected()
                if not message.acknowledged_at:
                    socket.send(type="message", msg=asked, id=message.message_id)
                await self._read(socket, message, asked, cut_at)
            except BROKEN:
                self._disconnect()
                await asyncio.sleep(RETRY_DELAY)
            cut_at = 0

    async def _read(self, socket: Socket, message: TrackedMessage, asked: str, cut_at: int) -> None:
        while not message.answered_at:
            frame = await socket.receive()
            kind = frame["type"]
            if kind == "session" and frame["recovered"] is False:
                self._resume_after_a_restore(socket, message, asked)
            elif kind == "ack" and frame["id"] == message.message_id:
                message.acknowledged_at = message.acknowledged_at or time.monotonic()
                self._last = frame["id"]
            elif kind == "error" and not await self._handle_error(frame, message, asked):
                return
            elif kind == "status" and frame["id"] == message.message_id and frame["state"] == "retrying":
                message.promised.append((time.monotonic(), float(frame["retry_in"] or 0)))
            elif kind == "delta" and frame["reply_to"] == message.message_id:
                self._take_delta(frame, message)
                if cut_at and len(message.streamed[frame["id"]].split()) >= cut_at:
                    self.reconnects += 1
                    self._disconnect()
                    return
            elif kind == "message":
                self._take_message(frame, message, asked)

    def _take_delta(self, frame: dict[str, Any], message: TrackedMessage) -> None:
        text = message.streamed.get(frame["id"], "")
        if frame["offset"] == 0:
            message.begun.append(time.monotonic())
        message.streamed[frame["id"]] = text[: frame["offset"]] + frame["msg"]

    def _take_message(self, frame: dict[str, Any], message: TrackedMessage, asked: str) -> None:
        self._last = frame["id"]
        if frame["id"] == message.message_id:
            # A replay: the message is stored, even if its ack was lost.
            message.acknowledged_at = message.acknowledged_at or time.monotonic()
        elif frame.get("reply_to") == message.message_id:
            message.replies[frame["id"]] = frame["msg"]
            message.answered_at = time.monotonic()
            if not frame["msg"].startswith(f"You said: {asked} "):
                self.problems.append(f"{asked}: got {frame['msg'][:80]!r}")
            if not frame["msg"].startswith(message.streamed.get(frame["id"], "")):
                self.problems.append(f"{asked}: the deltas do not make the reply")

    async def _handle_error(self, frame: dict[str, Any], message: TrackedMessage, asked: str) -> bool:
        """Waits as long as the server asks; false when the message must be sent again, or is settled."""
        if frame["code"] == "unavailable":
            # Not stored.
            await asyncio.sleep(RETRY_DELAY)
        elif frame["code"] == "rate_limited" and not message.acknowledged_at:
            message.refused += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), frame["retry_after"] or 1)
        else:
            self.problems.append(f"{asked}: {frame}")
            self._ending.set()
            message.answered_at = time.monotonic()
        return False

    def _resume_after_a_restore(self, socket: Socket, message: TrackedMessage, asked: str) -> None:
        """The server does not know the last message: sends the present one again, under the same id."""
        if not self._crowd.restored:
            self.problems.append(f"{asked}: the server does not know message {self._last}")
        message.acknowledged_at = 0.0
        message.streamed.clear()
        self._last = None
        socket.send(type="message", msg=asked, id=message.message_id)

    async def _connected(self) -> Socket:
        if self._socket is None:
            self._socket = await self._insist(
                lambda url: Socket.connect(url, self.token, self._last, self._crowd.address(self.number))
            )
        return self._socket

    def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.cut()

    async def _insist(self, attempt: Callable[[str], Awaitable[T]]) -> T:
        began = time.monotonic()
        while True:
            try:
                self.url = self._random.choice(self._crowd.urls())
                return await attempt(self.url)
            except (*BROKEN, requests.RequestException):
                if time.monotonic() - began > self._crowd.lost_after:
                    raise
                await asyncio.sleep(RETRY_DELAY)
