"""A chunk of a reply, as every model gives it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from chatbot.worker.models.answers.usage import Usage

#: The chunks of a reply. Closing the generator early ends the model call.
Pieces = Generator["Piece", None, None]


class Piece(NamedTuple):
    """A chunk of a reply. The last one says why the reply ended: `stop`, `length` or `content_filter`."""

    text: str
    finish_reason: str | None = None
    #: The model's reasoning, which is not part of the reply.
    reasoning: str = ""
    #: All text before this chunk was thinking, as it turns out: the reply's text begins with this chunk's.
    retracts: bool = False
    #: Of the last chunk: the tokens of the whole call, unless the server did not report them.
    usage: Usage | None = None
    #: Of the last chunk: the function calls of the reply, as items. Of another chunk of a request whose calls are
    #: streamed: those so far, the last one's arguments perhaps incomplete.
    calls: tuple[Mapping[str, Any], ...] = ()
    #: How many chunks of the server this one is made of: those that arrived together.
    chunks: int = 1
