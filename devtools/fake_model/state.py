"""The record of each request, and the settings that can change while the server runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DONE, CLOSED, FAULT, REFUSED = "done", "closed_by_client", "fault", "refused"


@dataclass(slots=True)
class Record:
    """One request. Times are epoch seconds; header names are in lower case."""

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
    outcome: str | None = None  # None while it is in progress
    ended_at: float | None = None  # when the outcome was known; for closed_by_client, when the disconnect was detected


@dataclass
class Controls:
    """What ``PUT /control`` can set. Times are in milliseconds; those that are sent to clients are in seconds."""

    first: float = 0
    interval: float = 0
    tokens: int = 0  # the minimum: the repeated message is never cut short
    hold: int | None = None  # after so many tokens every streamed reply waits until this is raised or None
    fault: str | None = None
    count: int | None = None  # how many requests the fault affects; None: all
    after: int = 3  # tokens before a fault within a stream
    estimated_time: float = 0.5
    retry_after: float = 1
    strict_turns: bool = False  # refuse a prompt with an empty message, or whose roles do not alternate
    refuse: str = ""  # a content filter refuses every prompt that holds this text
    continuing: str = "yes"  # how a chat's last message of the assistant is taken: "yes", "refused", or "ignored"
    to: str = "http://127.0.0.1:9/"  # where a redirect leads
