"""`GET /messages`: what has happened in a session since the last poll, for clients that no stream reaches.

A poll leaves nothing behind in the web process: a client names what it has, and any process may answer the next one.
"""

from __future__ import annotations

import json
import re
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from chatbot.protocol import close_codes
from chatbot.protocol.client_errors import SessionDamaged, SessionNotFound
from chatbot.protocol.close_codes import Closing
from chatbot.protocol.compact_json import to_json
from chatbot.sessions.ids import session_id
from chatbot.sessions.snapshots import Snapshot
from chatbot.web.disconnects import has_disconnected
from chatbot.web.fanout.hub import replay, replayed_path
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.services import Services
from chatbot.web.transports.connections import Connection, session_frame

#: Seconds that the parts of a reply are collected before they are answered: else each would be a poll.
_GATHER = 0.2
#: Seconds between two checks of whether the client is still there.
_CHECK_INTERVAL = 2.0
_PART = (b'{"type":"delta"', b'{"type":"reasoning"')
_CURSOR = re.compile(r"(\d{1,15})\.(\d{1,15})\.(\d{1,9})\.(\d{1,9})\.([0-9a-f]{8})\.[A-Za-z0-9_-]{0,64}\Z")


@dataclass(frozen=True)
class Cursor:
    """What a polling client has of a session, as the answer's `after` names it."""

    #: Messages of the log.
    position: int
    #: The number of the last event.
    event: int
    #: Code points of the reply in progress, reasoning and text, and the CRC-32 of both.
    reasoning: int
    text: int
    check: str

    @classmethod
    def parse(cls, after: str | None) -> Cursor | None:
        """None for the id of a message, which has no dots."""
        found = _CURSOR.match(after or "")
        if found is None:
            return None
        position, event, reasoning, text = map(int, found.groups()[:4])
        return cls(position, event, reasoning, text, found[5])

    def __str__(self) -> str:
        # Older versions name the end of the path that is shown behind the last dot.
        return f"{self.position}.{self.event}.{self.reasoning}.{self.text}.{self.check}."

    def held(self, snapshot: Snapshot) -> tuple[int, int]:
        """How much of the reply in progress the client has: nothing if the reply was begun again since."""
        reasoning, text = snapshot.reasoning[: self.reasoning], snapshot.partial[: self.text]
        if snapshot.reasoning and not reasoning:
            # Reasoning from the beginning begins the reply anew.
            return 0, 0
        return (self.reasoning, self.text) if self.check == _check(reasoning, text) else (0, 0)

    def is_before(self, snapshot: Snapshot) -> bool:
        """Whether the snapshot has all that the client has: Redis was not restored, and not too much followed."""
        return bool(snapshot.recovered) and self.event <= snapshot.event and self.position <= snapshot.length


class Poll:
    """One request of a polling client."""

    def __init__(self, services: Services, environ: dict[str, Any], token: str | None, network: str) -> None:
        self._environ = environ
        self._has_token = bool(token)
        self._subscriber = Subscriber(session_id(token or ""), self._take, self._end, str.encode)
        self._connection = Connection(services, self._subscriber, network, "a poll")
        self._frames: list[bytes] = []
        self._taken = threading.Event()
        self._complete = threading.Event()
        self._closing: Closing | None = None

    def answer(self, after: str | None, wait: float) -> str:
        """The answer as JSON, at once when there is something after `after`, else within `wait` seconds.

        Raises `Refused`, and `SessionNotFound` or `SessionDamaged` when the session ends meanwhile.
        """
        cursor = Cursor.parse(after)
        known = {"after": after} if cursor is None else {"position": cursor.position}
        try:
            snapshot = self._connection.open(self._has_token, **known, touch=cursor is None)
            progress = _Progress(snapshot)
            begun = list(self._session(snapshot) if cursor is None else self._missed(snapshot, cursor))
            self._connection.release(snapshot)
            # A new client that has nothing to catch up on waits with the session's frame; one without `after` does not.
            if after is not None and (len(begun) < 2 if cursor is None and snapshot.recovered else not begun):
                del snapshot
                self._wait(time.monotonic() + wait)
            # Later events are for the next poll.
            self._subscriber.hold()
        finally:
            self._connection.close()
        if self._closing == close_codes.EXPIRED:
            raise SessionNotFound
        if self._closing == close_codes.DAMAGED:
            raise SessionDamaged
        for frame in self._frames:
            progress.apply(json.loads(frame))
        cursor = progress.cursor(self._subscriber)
        answered = b",".join((*(to_json(frame).encode() for frame in begun), *self._frames))
        return f'{{"after":"{cursor}","frames":[{answered.decode()}]}}'

    def _session(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """What a new client gets."""
        yield session_frame(snapshot)
        yield from replay(self._subscriber.session, snapshot)

    def _missed(self, snapshot: Snapshot, cursor: Cursor) -> Iterator[dict[str, Any]]:
        """What has happened since the last poll."""
        if not cursor.is_before(snapshot):
            yield from self._session(replace(snapshot, recovered=False))
        elif cursor.event != snapshot.event:
            yield from replay(self._subscriber.session, snapshot, cursor.held(snapshot))
            yield from replayed_path(snapshot, cursor.event)

    def _wait(self, deadline: float) -> None:
        """Waits for an event until the deadline, a monotonic time, then a moment for the other parts of a reply."""
        lifetime = self._connection.lifetime
        while not self._taken.is_set() and not has_disconnected(self._environ):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._taken.wait(min(left, lifetime.until_check(), _CHECK_INTERVAL))
            if not self._taken.is_set() and lifetime.over():
                self._end(close_codes.EXPIRED)
        self._complete.wait(_GATHER)

    def _take(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._taken.set()
        if not frame.startswith(_PART):
            self._complete.set()

    def _end(self, closing: Closing) -> None:
        """Has the poll answered at once, without blocking."""
        self._closing = self._closing or closing
        self._taken.set()
        self._complete.set()


class _Progress:
    """What a client has of the reply in progress once it has applied its frames."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._reasoning, self._text = snapshot.reasoning, snapshot.partial

    def apply(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "reasoning":
            self._reasoning = self._reasoning[: frame["offset"]] + frame["msg"]
            self._text = self._text if frame["offset"] else ""
        elif kind == "delta":
            self._text = self._text[: frame["offset"]] + frame["msg"]
        elif kind == "message" and frame["source"] == "bot":
            self._reasoning = self._text = ""

    def cursor(self, subscriber: Subscriber) -> Cursor:
        check = _check(self._reasoning, self._text)
        return Cursor(subscriber.position, subscriber.event, len(self._reasoning), len(self._text), check)


def _check(reasoning: str, text: str) -> str:
    both = f"{reasoning}\0{text}"
    return f"{zlib.crc32(both.encode()):08x}"
