"""People who talk while things break: they reconnect and send again by the rules of docs/protocol.md, and remember
what they were promised."""

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

#: Seconds after which a promised reply counts as lost: the promise is far below that.
LOST_AFTER = 60.0
#: Seconds between two attempts to connect.
RETRY_DELAY = 0.1


@dataclass
class Exchange:
    """One message and what came of it. Times are those of `time.monotonic()`."""

    message_id: str
    asked_at: float
    acknowledged_at: float = 0.0
    answered_at: float = 0.0
    streamed: dict[str, str] = field(default_factory=dict)
    replies: dict[str, str] = field(default_factory=dict)


class Person(threading.Thread):
    """Talks in one session, one message after the other, until told to end; `cut()` breaks the connection."""

    def __init__(self, number: int, urls: Callable[[], list[str]], *, cut_often: bool = False) -> None:
        super().__init__(name=f"person{number}", daemon=True)
        self.number = number
        self.exchanges: list[Exchange] = []
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
        """The message under way is still waited for."""
        self._ending.set()

    def run(self) -> None:
        try:
            self.token = self._insist(lambda url: str(new_session(url, f"person {self.number}")["token"]))
            while not self._ending.is_set():
                self._exchange(len(self.exchanges))
        except Exception as error:  # noqa: BLE001 - reported to the test, which fails
            self.problems.append(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            if self._client is not None:
                self._client.cut()

    def _exchange(self, number: int) -> None:
        began = time.monotonic()
        exchange = Exchange(f"m{number}", began)
        self.exchanges.append(exchange)
        asked = f"person {self.number} asks {number}"
        cut_at = self._random.randint(1, 8) if self._cut_often and self._random.random() < 0.5 else 0
        while not exchange.answered_at:
            if time.monotonic() - began > LOST_AFTER:
                state = "acknowledged" if exchange.acknowledged_at else "never acknowledged"
                self.problems.append(f"{asked}: no reply ({state})")
                # What follows would wait behind it.
                self._ending.set()
                return
            try:
                client = self._connected()
                if not exchange.acknowledged_at:
                    client.send(asked, exchange.message_id)
                self._read(client, exchange, asked, cut_at)
            except (Closed, websocket.WebSocketException, OSError):
                self._disconnect()
            cut_at = 0

    def _read(self, client: ChatClient, exchange: Exchange, asked: str, cut_at: int) -> None:
        deltas = 0
        while not exchange.answered_at:
            frame = client.receive()
            kind = frame["type"]
            if kind == "ack" and frame["id"] == exchange.message_id:
                exchange.acknowledged_at = exchange.acknowledged_at or time.monotonic()
                self._last = frame["id"]
            elif kind == "error":
                if frame["code"] == "unavailable":
                    # Not stored: to be sent again.
                    time.sleep(RETRY_DELAY)
                    return
                self.problems.append(f"{asked}: {frame}")
                self._ending.set()
                exchange.answered_at = time.monotonic()
            elif kind == "delta" and frame["reply_to"] == exchange.message_id:
                deltas += 1
                exchange.streamed[frame["id"]] = client.text[frame["id"]]
                if cut_at and deltas >= cut_at:
                    self.reconnects += 1
                    self._disconnect()
                    return
            elif kind == "message":
                self._last = frame["id"]
                if frame["id"] == exchange.message_id:
                    # A replay: the message is stored, though its ack may have been lost.
                    exchange.acknowledged_at = exchange.acknowledged_at or time.monotonic()
                elif frame["reply_to"] == exchange.message_id:
                    exchange.replies[frame["id"]] = frame["msg"]
                    exchange.answered_at = time.monotonic()
                    if not frame["msg"].startswith(f"You said: {asked} "):
                        self.problems.append(f"{asked}: got {frame['msg'][:80]!r}")
                    if not frame["msg"].startswith(exchange.streamed.get(frame["id"], "")):
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
class Outcome:
    """What a run of people came to."""

    acknowledged: int = 0
    answered: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    problems: list[str] = field(default_factory=list)
    #: Seconds from a fault to the reply of each message that was under way then.
    recoveries: list[float] = field(default_factory=list)
    #: Seconds from a person's first attempt to say something to the reply, the longest of all.
    longest_wait: float = 0.0

    @property
    def kept_the_promise(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order or self.problems)


class Crowd:
    """Several people; as a context they talk from its beginning to its end, and `outcome` tells how it went."""

    def __init__(self, count: int, urls: Callable[[], list[str]], *, cut_often: bool = False) -> None:
        self.people = [Person(n, urls, cut_often=cut_often) for n in range(count)]
        self._urls = urls
        self._faults: list[float] = []
        self.outcome = Outcome()

    def __enter__(self) -> Crowd:
        for person in self.people:
            person.start()
        return self

    def __exit__(self, *_: object) -> None:
        for person in self.people:
            person.end()
        for person in self.people:
            person.join()
        self._judge()

    def mark_fault(self) -> None:
        """A fault happens now."""
        self._faults.append(time.monotonic())

    def talking(self) -> int:
        """People with a reply in progress, some of which they have seen."""
        return sum(
            bool(p.exchanges and p.exchanges[-1].streamed and not p.exchanges[-1].answered_at) for p in self.people
        )

    def answered(self) -> int:
        return sum(bool(e.answered_at) for p in self.people for e in p.exchanges)

    def _judge(self) -> None:
        outcome = self.outcome
        for person in self.people:
            outcome.problems += person.problems
            acknowledged = [e.message_id for e in person.exchanges if e.acknowledged_at]
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
            for exchange in person.exchanges:
                outcome.longest_wait = max(outcome.longest_wait, exchange.answered_at - exchange.asked_at)
                for fault in self._faults:
                    if exchange.acknowledged_at and exchange.acknowledged_at <= fault <= exchange.answered_at:
                        outcome.recoveries.append(exchange.answered_at - fault)
