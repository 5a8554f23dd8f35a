"""What the server remembers of each request, and what can be set while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DONE, CLOSED, FAULT, REFUSED = "done", "closed_by_client", "fault", "refused"


@dataclass(slots=True)
class Record:
    """One request. Times are ``time.time()``; header names are in lower case."""

    number: int
    method: str
    path: str
    arrived_at: float
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    prompt: str | None = None
    messages: list[Any] | None = None
    stream: bool = False
    status: int | None = None
    fault: str | None = None
    tokens: int = 0
    first_at: float | None = None
    last_at: float | None = None
    outcome: str | None = None  # None while it goes on
    ended_at: float | None = None  # when the outcome was known: of closed_by_client, when the close was noticed


@dataclass
class Settings:
    """What ``PUT /control`` can set. Times are in milliseconds, but seconds where they go over the wire."""

    first: float = 0
    interval: float = 0
    tokens: int = 0  # at least so many: what was said is never cut short
    keep_alive: float = 15_000  # a comment goes into a stream that was quiet for so long; 0: never
    fault: str | None = None
    count: int | None = None  # how many requests the fault hits; None: all of them
    after: int = 3  # tokens that come before a fault inside a stream
    estimated_time: float = 0.5
    retry_after: float = 1
    to: str = "http://127.0.0.1:9/"  # where a redirect leads
