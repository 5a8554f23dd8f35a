"""What one socket needs of a session to go on, read in one step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from chatbot.sessions.pages import with_parents


@dataclass(frozen=True)
class Snapshot:
    """What one socket needs of a session, read in one step."""

    name: str
    session_start: str
    #: Seconds.
    expires_in: float
    #: Messages in the log.
    length: int
    #: Whether `messages` holds all that follow the given message or position: false when that one is unknown, or more
    #: than a page follows, or too much was read lately. None when neither was given.
    recovered: bool | None
    messages: list[dict[str, Any]]
    #: Ids of requests without a reply, in the order in which they are answered.
    pending: list[str]
    #: The text generated so far of the reply to `pending[0]`.
    partial: str
    #: The model's reasoning so far, for that reply.
    reasoning: str
    #: Ids of failed requests, each with the text shown to the user.
    failed: dict[str, str]
    #: Number of the last event that the snapshot includes.
    event: int
    #: The last message of the path that the session shows; None without messages.
    leaf: str | None
    #: Number of the last event that selected a path; messages and regenerations are shown without one. 0 for none.
    selected: int
    #: Of the pending and failed requests the regenerations, each with its human message.
    requests: dict[str, str]

    @classmethod
    def of(cls, answer: list[Any]) -> tuple[Snapshot, int]:
        """The answer of scripts/snapshot.lua, and the length of its messages as JSON."""
        _, name, start, ttl, length, recovered, messages, partial, reasoning, pending, failed, event, *tree = answer
        leaf, selected, requests, lineage = tree
        snapshot = cls(
            name=json.loads(name),
            session_start=json.loads(start),
            expires_in=ttl / 1000,
            length=length,
            recovered=None if recovered == "" else recovered == "1",
            messages=with_parents(json.loads(messages), lineage) if messages else [],
            pending=pending,
            partial=partial,
            reasoning=reasoning,
            failed=dict(zip(failed[::2], failed[1::2], strict=True)),
            event=event,
            leaf=json.loads(leaf),
            selected=selected,
            requests=dict(zip(requests[::2], requests[1::2], strict=True)),
        )
        return snapshot, len(messages)
