"""What is published and heard between workers and web processes.

Pub/sub is a hint, Redis is the truth: an event may be missed, and whoever missed some reads what is stored.

An event is one text: a header line with the event's number and the position in the session's log that it completes
(empty when it completes none), then the frame, ready to be sent to a client as it stands. The scripts that publish
number a session's events one by one, so that whoever listens knows which ones a snapshot holds already, and notices
when one is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

#: Sessions whose running reply is to be stopped; the payload is the session's id. Workers listen.
STOP_CHANNEL = "chat:stop"

_EVENTS_SUFFIX = ":events"


def events_channel(session_id: str) -> str:
    """The channel on which one session's replies are published."""
    return f"chat:{{{session_id}}}{_EVENTS_SUFFIX}"


@dataclass(frozen=True, slots=True)
class Event:
    """One published frame. `position` is the length of the session's log once the frame's message is in it."""

    number: int
    position: int | None
    frame: str

    @classmethod
    def decode(cls, payload: str) -> Event:
        """Raises `ValueError` for a payload that is no event."""
        header, newline, frame = payload.partition("\n")
        number, colon, position = header.partition(":")
        if not newline or not colon:
            raise ValueError("an event has a header line with a number and a position, then a frame")
        return cls(int(number), int(position) if position else None, frame)


def to_json(document: dict[str, Any]) -> str:
    """Compact JSON, as it goes over the wire and into Redis."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
