"""What a worker gets with a lease, and what it reports of a reply in progress."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chatbot.protocol.compact_json import to_json
from chatbot.sessions.ids import reply_id

#: A frame, or its JSON.
Frame = dict[str, Any] | str


@dataclass(frozen=True)
class Assignment:
    """One request to be answered, under a lease."""

    session: str
    fence: str
    #: The request: the human message, or a regeneration.
    message_id: str
    #: Failed attempts so far; an attempt during which the model was being loaded does not count.
    attempts: int
    #: Seconds since the model server first answered that the model was being loaded; 0 when it did not.
    loading_for: float
    #: The user stopped the reply before its generation began.
    stopped: bool
    #: Stored messages in the order of the conversation; the last is the one to answer.
    messages: tuple[dict[str, Any], ...]
    #: The text that an attempt which did not end has published, and the tokens generated for it. The reply to a request
    #: with options may go on from there, but not begin again.
    partial: str = ""
    generated: int = 0
    #: The reasoning and the function calls that such an attempt has published, of a request with options.
    reasoning: str = ""
    calls: str = ""
    #: The trace of the request's acceptance, and when that was, in epoch milliseconds; '' without traces.
    trace: str = ""
    #: The id of the span of this attempt.
    attempt: str = ""
    #: The attempt before: `<span>:<start>:<number>`, `:ended` if its worker recorded it, and after a space when the
    #: session became ready again. Times in epoch milliseconds.
    attempt_before: str = ""

    @cached_property
    def reply_id(self) -> str:
        return reply_id(self.session, self.message_id)

    @property
    def reply_to(self) -> str:
        """The id of the human message."""
        return str(self.messages[-1]["id"])

    @property
    def options(self) -> dict[str, Any] | None:
        """What a request of OpenAI's interfaces asks of the model; None for other requests."""
        found: dict[str, Any] | None = self.messages[-1].get("options")
        return found

    @property
    def sends_text(self) -> bool:
        """Whether a client of OpenAI's interfaces gets the text as it is generated: what was sent cannot change."""
        return bool((self.options or {}).get("stream"))

    @property
    def regeneration(self) -> str | None:
        """The request's id if it is a regeneration: another reply to its message."""
        return None if self.message_id == self.reply_to else self.message_id


def assignment_of(session: str, answer: list[Any], attempt: str) -> Assignment | None:
    """What a claim returned, with `attempt` as the span of the attempt; None when there is nothing to answer."""
    if answer[0] != "message":
        return None
    _, fence, message_id, attempts, loading, stopped, now, partial, generated, trace, before, *rest = answer
    reasoning, calls, *messages = rest
    return Assignment(
        session=session,
        fence=fence,
        message_id=message_id,
        attempts=attempts,
        loading_for=(now - loading) / 1000 if loading else 0.0,
        stopped=bool(stopped),
        partial=partial,
        generated=generated if partial else 0,
        trace=trace,
        attempt=attempt,
        attempt_before=before,
        reasoning=reasoning,
        calls=calls,
        messages=tuple(json.loads(f"[{','.join(messages)}]")),
    )


@dataclass(slots=True)
class Progress:
    """What is new in a reply that is being generated: text, reasoning and calls, with the frames that publish them.

    The offsets are their positions, in bytes of UTF-8; 0 replaces what is stored.
    """

    assignment: Assignment
    text: str = ""
    offset: int = 0
    frame: Frame | None = None
    reasoning: str = ""
    reasoning_offset: int = 0
    reasoning_frame: Frame | None = None
    #: Whether to renew the lease.
    renew: bool = True
    #: Tokens generated for all text so far.
    generated: int = 0
    #: See protocol/openai/calls.py.
    calls: str = ""
    calls_offset: int = 0
    calls_frame: Frame | None = None

    def values(self) -> list[str | int]:
        """What scripts/progress.lua takes for one reply."""
        work = self.assignment
        parts: list[str | int] = []
        if self.reasoning:
            parts += ("reasoning", self.reasoning, self.reasoning_offset, _encoded(self.reasoning_frame))
        if self.text:
            parts += ("text", self.text, self.offset, _encoded(self.frame))
        if self.calls:
            parts += ("calls", self.calls, self.calls_offset, _encoded(self.calls_frame))
        return [work.session, work.fence, work.message_id, int(self.renew), self.generated, len(parts), *parts]


def _encoded(frame: Frame | None) -> str:
    return frame if isinstance(frame, str) else to_json(frame) if frame else ""
