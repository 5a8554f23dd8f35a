"""What the client hands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: What happens to a message while another one waits for its reply.
OnBusy = Literal["queue", "interrupt", "reject"]
#: A transport; `events` are server-sent events.
Way = Literal["websocket", "events", "polling"]
#: Stands for the path that is shown, as None is the beginning of the conversation.
SHOWN: Any = object()
#: A frame of the protocol, as docs/protocol.md describes it.
Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delta:
    """A change of a reply's text: `text` stands at character `offset`, and nothing behind it.

    `str(delta)` is the text.
    """

    text: str
    offset: int
    #: Whether it takes the place of text that was there: the reply is being generated again.
    replaces: bool

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Message:
    """A complete message of the conversation."""

    id: str
    source: Literal["human", "bot"]
    text: str
    #: RFC 3339 in UTC.
    timestamp: str
    #: Of a reply: the human message.
    reply_to: str | None = None
    #: The message that it follows; None at the beginning.
    parent: str | None = None
    #: Of a reply: `stop`, `length`, `content_filter` or `stopped`.
    finish_reason: str | None = None
    #: What the model thought before the reply.
    reasoning: str = ""
    #: Of the reply to a regeneration: that request's id.
    request: str | None = None
    #: All fields, also those that this version does not know.
    frame: Mapping[str, Any] | None = None

    @classmethod
    def from_frame(cls, frame: Mapping[str, Any]) -> Message:
        """The message in a frame, or in a page of the history."""
        return cls(
            id=frame["id"],
            source=frame["source"],
            text=frame["msg"],
            timestamp=frame["timestamp"],
            reply_to=frame.get("reply_to"),
            parent=frame.get("parent"),
            finish_reason=frame.get("finish_reason"),
            reasoning=frame.get("reasoning", ""),
            request=frame.get("request"),
            frame=frame,
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the history, oldest message first."""

    messages: tuple[Message, ...]
    #: The id to ask for older messages with; None when there are none.
    before: str | None
    #: The last message of the path that the session shows.
    leaf: str | None
