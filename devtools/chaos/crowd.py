"""Users who talk while parts of the chat break: they reconnect and resend by the rules of docs/protocol.md, and record
what was acknowledged."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import requests
import websocket

from devtools.harness.chat_client import ChatClient, Closed, history, new_session
from devtools.harness.delivery import Delivery

#: Seconds after which the reply to a message counts as lost: the chat is far faster than that.
LOST_AFTER = 60.0
#: Seconds between two attempts to connect.
RETRY_DELAY = 0.1


@dataclass
class TrackedMessage:
    """One message, its acknowledgement and its replies. Times are those of `time.monotonic()`; 0 means not yet."""

    message_id: str
    sent_at: float
    acknowledged_at: float = 0.0
    answered_at: float = 0.0
    streamed: dict[str, str] = field(default_factory=dict)
    replies: dict[str, str] = field(default_factory=dict)


class Person(threading.Thread):
    """A user who sends one message after the other in one session until `end()`."""

    def __init__(self, number: int, urls: Callable[[], list[str]], *, cut_often: bool = False) -> None:
        super().__init__(name=f"person{number}", daemon=True)
        self.number = number
        self.messages: list[TrackedMessage] = []
        self.problems: list[str] = []
        self.token = ""
        self.reconnects = 0
        self._urls = urls
        self._cut_often = cut_often
        self._random = random.Random(number)
        self._ending = threading.Event()
        self._client: ChatClient | None = None
        self._last: str | None = None

    def end(self) -> None:
        """Sends no more messages; the reply to the last one is still awaited."""
        self._ending.set()

    def run(self) -> None:
        try:
            self.token = self._insist(lambda url: str(new_session(url, f"person {self.number}")["token"]))
            while not self._ending.is_set():
                self._converse(len(self.messages))
        except Exception as error:  # noqa: BLE001 - reported to the test, which fails
            self.problems.append(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            if self._client is not None:
                self._client.cut()

    def _converse(self, number: int) -> None:
        began = time.monotonic()
        message = TrackedMessage(f"m{number}", began)
        self.messages.append(message)
        asked = f"person {self.number} asks {number}"
        cut_at = self._random.randint(1, 8) if self._cut_often and self._random.random() < 0.5 else 0
        while not message.answered_at:
            if time.monotonic() - began > LOST_AFTER:
                state = "acknowledged" if message.acknowledged_at else "never acknowledged"
                self.problems.append(f"{asked}: no reply ({state})")
                # Later messages would wait behind this one.
                self._ending.set()
                return
            try:
                client = self._connected()
                if not message.acknowledged_at:
                    client.send(asked, message.message_id)
                self._read(client, message, asked, cut_at)
            except (Closed, websocket.WebSocketException, OSError):
                self._disconnect()
            cut_at = 0

    def _read(self, client: ChatClient, message: TrackedMessage, asked: str, cut_at: int) -> None:
        deltas = 0
        while not message.answered_at:
            frame = client.receive()
            kind = frame["type"]
            if kind == "ack" and frame["id"] == message.message_id:
                message.acknowledged_at = message.acknowledged_at or time.monotonic()
                self._last = frame["id"]
            elif kind == "error":
                if frame["code"] == "unavailable":
                    # Not stored: the message must be sent again.
                    time.sleep(RETRY_DELAY)
                    return
                self.problems.append(f"{asked}: {frame}")
                self._ending.set()
                message.answered_at = time.monotonic()
            elif kind == "delta" and frame["reply_to"] == message.message_id:
                deltas += 1
                message.streamed[frame["id"]] = client.text[frame["id"]]
                if cut_at and deltas >= cut_at:
                    self.reconnects += 1
                    self._disconnect()
                    return
            elif kind == "message":
                self._last = frame["id"]
                if frame["id"] == message.message_id:
                    # A replay: the message is stored, even if its ack was lost.
                    message.acknowledged_at = message.acknowledged_at or time.monotonic()
                elif frame["reply_to"] == message.message_id:
                    message.replies[frame["id"]] = frame["msg"]
                    message.answered_at = time.monotonic()
                    if not frame["msg"].startswith(f"You said: {asked} "):
                        self.problems.append(f"{asked}: got {frame['msg'][:80]!r}")
                    if not frame["msg"].startswith(message.streamed.get(frame["id"], "")):
                        self.problems.append(f"{asked}: the deltas do not make the reply")

    def _connected(self) -> ChatClient:
        if self._client is None:
            self._client = self._insist(lambda url: ChatClient(url, self.token, after=self._last))
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(OSError, websocket.WebSocketException):
                client.cut()

    def _insist(self, attempt: Callable[[str], Any]) -> Any:
        began = time.monotonic()
        while True:
            try:
                return attempt(self._random.choice(self._urls()))
            except (OSError, websocket.WebSocketException, requests.RequestException):
                if time.monotonic() - began > LOST_AFTER:
                    raise
                time.sleep(RETRY_DELAY)


@dataclass
class CrowdDelivery(Delivery):
    """How the messages of a crowd fared, and how long its users waited. Times are in seconds."""

    #: From a fault to the reply of each acknowledged message that had none yet.
    recoveries: list[float] = field(default_factory=list)
    #: From the first attempt to send a message to its reply, the longest of all.
    longest_wait: float = 0.0


class Crowd:
    """Several users who talk within the `with`; after it `outcome` holds the result."""

    def __init__(self, count: int, urls: Callable[[], list[str]], *, cut_often: bool = False) -> None:
        self.people = [Person(n, urls, cut_often=cut_often) for n in range(count)]
        self._urls = urls
        self._faults: list[float] = []
        self.outcome = CrowdDelivery()

    def __enter__(self) -> Crowd:
        for person in self.people:
            person.start()
        return self

    def __exit__(self, *_: object) -> None:
        for person in self.people:
            person.end()
        for person in self.people:
            person.join()
        self._check()

    def mark_fault(self) -> None:
        """Records that a fault happens now."""
        self._faults.append(time.monotonic())

    def talking(self) -> int:
        """The number of users who have received a part of a reply."""
        return sum(bool(p.messages and p.messages[-1].streamed and not p.messages[-1].answered_at) for p in self.people)

    def answered(self) -> int:
        return sum(bool(m.answered_at) for p in self.people for m in p.messages)

    def _check(self) -> None:
        outcome = self.outcome
        for person in self.people:
            outcome.problems += person.problems
            acknowledged = [m.message_id for m in person.messages if m.acknowledged_at]
            outcome.acknowledged += len(acknowledged)
            stored = history(self._urls()[0], person.token) if person.token else []
            humans = [m["id"] for m in stored if m["source"] == "human"]
            replied = [m["reply_to"] for m in stored if m["source"] == "bot"]
            outcome.answered += len(set(replied) & set(acknowledged))
            outcome.lost += len(set(acknowledged) - set(replied))
            outcome.doubled += len(replied) - len(set(replied)) + len(humans) - len(set(humans))
            order = {message_id: n for n, message_id in enumerate(humans)}
            places = [order[r] for r in replied if r in order]
            outcome.out_of_order += sum(a > b for a, b in pairwise(places))
            for message in person.messages:
                outcome.longest_wait = max(outcome.longest_wait, message.answered_at - message.sent_at)
                for fault in self._faults:
                    if message.acknowledged_at and message.acknowledged_at <= fault <= message.answered_at:
                        outcome.recoveries.append(message.answered_at - fault)
