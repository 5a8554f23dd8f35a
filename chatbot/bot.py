"""What a bot of your own uses: the function that `MODEL_CALLABLE` names gets a conversation and yields text.

docs/bots.md describes the function. This module imports nothing of the application.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Chunk", "Context", "Message", "Retry", "Usage"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation."""

    #: `system` is for instructions, which requests to `/v1` may have.
    role: Literal["user", "assistant", "system"]
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of a reply, if the bot knows them: they are stored with the reply, logged and counted."""

    prompt_tokens: int
    completion_tokens: int
    #: Those of the prompt that the model did not have to read again.
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a reply, where text alone does not say enough."""

    text: str = ""
    #: Why the reply ended: `stop`, `length` or `content_filter`. A chunk with a reason is the last one.
    finish_reason: str | None = None
    #: What the model thinks before its reply: shown apart from the reply, and no part of it.
    reasoning: str = ""
    #: Of the whole reply; the last one counts.
    usage: Usage | None = None


class Retry(Exception):
    """Raised by a bot: this attempt failed, another one may succeed, not before `after` seconds if given."""

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        """`reason` is for the log; the user does not see it."""
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True)
class Context:
    """The facts of one attempt to reply, and whether it is cancelled."""

    #: The session's id: a hash, which opens no session.
    session: str
    #: The name that the user entered.
    name: str
    #: The start of the session, RFC 3339 in UTC.
    session_start: str
    #: The request: the id of the human message, or of a regeneration of its reply.
    message_id: str
    #: The id that the reply will have.
    reply_id: str
    #: 1 for the first attempt. An attempt that ended with its worker's death does not count.
    attempt: int
    #: The stored messages before the reply, as in docs/protocol.md; the last is the human message to answer.
    messages: Sequence[Mapping[str, Any]]
    #: The text of an attempt that failed, or ended with its worker's death or shutdown. A bot that yields it first goes
    #: on from there; users then see no text twice.
    partial: str
    #: What a request to `/v1` asks for besides: `temperature`, `max_output_tokens` and the like.
    options: Mapping[str, Any]
    _cancelled: threading.Event

    @property
    def cancelled(self) -> bool:
        """Whether nothing that the bot still yields will be used: the user stopped the reply, the time is over, the
        session has ended, or the worker shuts down."""
        return self._cancelled.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits until the attempt is cancelled, at most `seconds`; returns whether it is. For functions that block."""
        return self._cancelled.wait(seconds)
