"""Users who talk at once while parts of the chat break, and what became of their messages."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from devtools.chaos.user import RETRY_DELAY, TrackedMessage, User
from devtools.harness.chat_client import history
from devtools.harness.delivery import Delivery

#: Seconds after which the reply to a message counts as lost, unless a crowd is given another number.
LOST_AFTER = 60.0
#: Threads for HTTP requests.
_HTTP_THREADS = 8


@dataclass
class CrowdDelivery(Delivery):
    """How the messages of a crowd fared, and how long its users waited. Times are in seconds."""

    #: From a fault to the reply of each message that it struck, without the time that the reply itself takes.
    recoveries: list[float] = field(default_factory=list)
    #: From the first attempt to send a message to its reply.
    waits: list[float] = field(default_factory=list)
    #: Messages refused before they were accepted, each time.
    refused: int = 0
    #: Tokens of the stored replies: words, as the model server generates them.
    shown: int = 0


class Crowd:
    """Several users who talk within the `with`, in one event loop of a thread; after it `outcome` holds the result."""

    def __init__(
        self,
        count: int,
        urls: Callable[[], list[str]],
        *,
        cut_often: bool = False,
        reply_length: float = 0.0,
        lost_after: float = LOST_AFTER,
        order: Callable[[int], str] = lambda _: "",
        addresses: int = 1,
    ) -> None:
        """`reply_length` is how long the model takes for a reply, in seconds. The users have so many `addresses`.

        `order(n)` goes before the text of a message, where n is the user's number plus the message's: an order to the
        model server.
        """
        self.urls = urls
        self.cut_often = cut_often
        self.lost_after = lost_after
        self.order = order
        #: When Redis was copied, and when it was restored from that copy: messages acknowledged in between are lost.
        self.restored: list[tuple[float, float]] = []
        self.users = [User(self, n) for n in range(count)]
        self.outcome = CrowdDelivery()
        self._addresses = addresses
        self._reply_length = reply_length
        #: The time of each fault with each message that it struck.
        self.struck: list[tuple[float, TrackedMessage]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)
        self._http = ThreadPoolExecutor(_HTTP_THREADS, "http")

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for user in self.users:
            self._loop.call_soon_threadsafe(user.end)
        self._thread.join()
        self._loop.close()
        with self._http:
            stored = self._http.map(lambda user: history(self.urls()[0], user.token) if user.token else [], self.users)
            for user, messages in zip(self.users, stored, strict=True):
                self._check(user, messages)
                self.outcome.shown += sum(len(m["msg"].split()) for m in messages if m["source"] == "bot")
        for at, message in self.struck:
            if message.answered_at > at:
                self.outcome.recoveries.append(max(message.answered_at - at - self._reply_length, 0.0))

    def address(self, number: int) -> str:
        return f"127.0.1.{1 + number % self._addresses}"

    def http(self, call: Callable[..., dict[str, Any]], url: str, name: str) -> Awaitable[str]:
        """Runs a request that creates a session, in a thread; the result is its token."""
        return self._loop.run_in_executor(self._http, lambda: str(call(url, name)["token"]))

    def mark_fault(self, struck: Iterable[TrackedMessage], at: float = 0.0) -> None:
        """Records that a fault struck these messages, now or at `at`, by the monotonic clock."""
        at = at or time.monotonic()
        self.struck += [(at, message) for message in struck]

    def talking(self) -> int:
        """The number of users who have received a part of a reply."""
        return sum(bool(user.waiting and user.waiting.streamed) for user in self.users)

    def answered(self) -> int:
        return sum(bool(m.answered_at) for user in self.users for m in user.messages)

    def _run(self) -> None:
        async def run_all() -> None:
            await asyncio.gather(*(user.run() for user in self.users))
            # The event loop closes the sockets in its next iterations.
            await asyncio.sleep(RETRY_DELAY)

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(run_all())

    def _check(self, user: User, stored: list[dict[str, Any]]) -> None:
        outcome = self.outcome
        outcome.problems += user.problems
        acknowledged = {m.message_id for m in user.messages if m.acknowledged_at and not self._forgiven(m)}
        humans = [m["id"] for m in stored if m["source"] == "human"]
        replied = [m["reply_to"] for m in stored if m["source"] == "bot"]
        order = {message_id: n for n, message_id in enumerate(humans)}
        places = [order[r] for r in replied if r in order]
        outcome.acknowledged += len(acknowledged)
        outcome.answered += len(set(replied) & acknowledged)
        outcome.lost += len(acknowledged - set(replied))
        outcome.doubled += len(replied) - len(set(replied)) + len(humans) - len(set(humans))
        outcome.out_of_order += sum(a > b for a, b in pairwise(places))
        outcome.refused += sum(m.refused for m in user.messages)
        outcome.waits += [m.answered_at - m.sent_at for m in user.messages if m.answered_at]

    def _forgiven(self, message: TrackedMessage) -> bool:
        """Whether the message is younger than the copy from which Redis was restored."""
        return any(copied <= message.acknowledged_at <= restored for copied, restored in self.restored)
