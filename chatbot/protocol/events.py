"""Events: what workers publish to web processes.

Pub/sub may lose an event; what is stored in Redis is complete. A web process that missed one reads a snapshot.

An event is a text: a header line `<number>:<position>`, then the frame as it is sent to clients. `position` is the
length of the session's log once it contains the frame's message, and empty for other frames. The events of a session
are numbered without gaps, so that a subscriber knows which ones a snapshot includes, and whether one is missing. With
traces on, the header of an event that ends a reply is `<number>:<position>:<trace>`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: A reply was stopped; the payload is `<session>:<request>`, of an older version the session alone. Workers subscribe.
STOP_CHANNEL = "chat:stop"
#: How such a frame begins: scripts/accept.lua and regenerate.lua write it. A reply's id is never that of a request.
_REQUEST = re.compile(r'\{"type":"(?:message|request)","id":"([^"]+)"')


class Event(NamedTuple):
    """A numbered frame; `position` is None unless the frame completes a message of the log."""

    number: int
    position: int | None
    frame: str
    #: The trace to which its delivery belongs; not part of the frame.
    trace: str = ""

    @property
    def request(self) -> str:
        """The id of the request that the frame publishes, a human message or a regeneration; '' for other frames."""
        found = _REQUEST.match(self.frame)
        return found[1] if found else ""

    @classmethod
    def decode(cls, payload: str) -> Event:
        """Raises `ValueError` for a malformed payload."""
        header, newline, frame = payload.partition("\n")
        number, colon, rest = header.partition(":")
        position, _, trace = rest.partition(":")
        if not newline or not colon:
            raise ValueError("an event has a header line with a number and a position, then a frame")
        return cls(int(number), int(position) if position else None, frame, trace)


def stopped_reply(payload: str) -> tuple[str, str]:
    """The session and the request of a payload of `STOP_CHANNEL`; '' for the request where an older version sent it."""
    session, _, request = payload.partition(":")
    return session, request
