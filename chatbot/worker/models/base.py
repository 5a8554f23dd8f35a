"""The interface of a text-generation model, whatever its server's protocol, and the handle of one model call."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from chatbot.sessions.leases import Assignment
from chatbot.worker.models.continuation import (
    CannotContinue,
    Continuation,
    Diverged,
    Seam,
    Way,
    refuses_to_continue,
    sure_end,
)
from chatbot.worker.models.dialect import Change, Dialect, apply
from chatbot.worker.models.errors import CallCancelled, ModelError
from chatbot.worker.models.reply_text import ReplyText
from chatbot.worker.models.thinking import Thinking
from chatbot.worker.models.usage import Usage
from chatbot.worker.prompts import PromptMessage

if TYPE_CHECKING:
    from chatbot.worker.models.event_loop import ModelLoop

#: The chunks of a reply. Closing the generator early ends the model call.
Pieces = Generator["Piece", None, None]


class Piece(NamedTuple):
    """A chunk of a reply. The last one says why the reply ended: `stop`, `length` or `content_filter`."""

    text: str
    finish_reason: str | None = None
    #: The model's thinking, which is no part of the reply.
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


class Model(ABC):
    """A text-generation model: takes a conversation, generates chunks of text and a finish reason."""

    #: Whether `generate` blocks nowhere but in requests to a model server, so that it can run in a `ModelLoop`.
    in_loop = False
    #: Whether `generate` may be asked to continue a reply.
    continues = False

    @abstractmethod
    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """The reply to the last message, in chunks as the model generates them. When the last message is the
        assistant's, it is the beginning of the reply: then what follows it, or `CannotContinue` is raised.

        Only the last chunk has a finish reason. Raises `ModelError`, transient or permanent by type, also when the
        reply is cut off, and `CallCancelled` once `call` is cancelled.
        """


class ModelProtocol(Model):
    """A model on one server; a subclass for each protocol."""

    in_loop = True
    continues = True

    #: Texts that end a reply, besides the model itself.
    stop_sequences: tuple[str, ...] = ()
    #: What the server does not take.
    dialect: Dialect
    #: How the server continues a reply that was cut off.
    continuation: Continuation
    _parameters: Mapping[str, Any]

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        if conversation[-1].role == "assistant":
            yield from self._continued(conversation, call)
            return
        with closing(self._answered(conversation, call)) as pieces:
            for piece in pieces:
                if call.refused.get(self.continuation):
                    # The request was refused for the way in which it asked to continue, as it is accepted without.
                    self.continuation.refused(call.refused.pop(self.continuation))
                yield piece

    def _continued(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """What follows the last message, the beginning of the reply. Raises `CannotContinue`."""
        partial = conversation[-1].text
        for way in self.continuation.ways:
            begun = False
            try:
                for end in sorted({sure_end(partial), len(partial)}):
                    if end == len(partial) and not self.continuation.proven:
                        raise CannotContinue(
                            "the server began another reply" if begun else "the beginning is too short"
                        )
                    last = replace(conversation[-1], text=partial[:end])
                    seam = Seam(partial[end:], self.continuation.works)
                    try:
                        with closing(self._answered([*conversation[:-1], last], call, way, seam)) as pieces:
                            for piece in pieces:
                                if not begun:
                                    begun = True
                                    self.continuation.refused(call.refused.pop(self.continuation, set()))
                                yield piece
                        return
                    except Diverged as diverged:
                        if diverged.goes_on:
                            self.continuation.works()
                        begun = True
            except CannotContinue:
                raise
            except ModelError as error:
                if begun or not refuses_to_continue(error):
                    raise
                call.refused.setdefault(self.continuation, set()).add(way)
        raise CannotContinue("the server does not continue replies")

    def _answered(
        self,
        conversation: Sequence[PromptMessage],
        call: Call,
        way: Way | None = None,
        seam: Seam | None = None,
    ) -> Pieces:
        """The text, without stop sequences, apart from thinking; of a continuation what is behind the `seam`."""
        before = "" if seam is None else conversation[-1].text
        text, thinking, thoughts = ReplyText(self._stops(call), begun=bool(before)), Thinking(before), ReplyText()
        with closing(self._request(conversation, call, way)) as pieces:
            for piece in pieces:
                split = thinking.feed(piece.text)
                parts = [split, thinking.end()] if piece.finish_reason is not None else [split]
                retracts = parts[0].retracts or parts[-1].retracts
                shown, thought = "", piece.reasoning
                for part in parts:
                    if part.retracts:
                        thought += shown + text.held
                        shown, text = "", ReplyText(self._stops(call))
                    thought += part.thought
                    shown += text.feed(part.text)
                thought = thoughts.feed(thought) if thought or thoughts.held else ""
                reason = "stop" if text.stopped else piece.finish_reason
                if reason is not None:
                    shown, thought = shown + text.end(), thought + thoughts.end()
                if seam is not None and not seam.passed:
                    if retracts or thought:
                        raise CannotContinue("the model thinks again")
                    shown = seam.feed(shown, last=reason is not None)
                if reason is not None:
                    yield Piece(shown, reason, thought, retracts, piece.usage, piece.calls)
                    return
                if shown or thought or retracts or piece.calls:
                    yield Piece(shown, None, thought, retracts, calls=piece.calls, chunks=piece.chunks)
        raise AssertionError("the last chunk of every protocol has a finish reason")

    def _stops(self, call: Call) -> tuple[str, ...]:
        """The stop sequences of the protocol and of the request: not every server knows or trims them."""
        return (*self.stop_sequences, *(call.options or {}).get("stop", ()))

    @abstractmethod
    def _request(self, conversation: Sequence[PromptMessage], call: Call, way: Way | None) -> Pieces:
        """Like `generate`; chunks may be empty, and hold white space and stop sequences as the server sends them.

        `way` is how the last message is to be continued, if it is the assistant's.
        """

    def _adapted(
        self,
        post: Callable[[Change, dict[str, Any]], Pieces],
        given: Mapping[str, Any],
        *,
        system: bool = False,
        own: Collection[str] = (),
    ) -> Pieces:
        """The chunks of `post(change, parameters)`, asked again without what the server says it does not support.

        `given` are the parameters before any change, those in `own` the request's."""
        change = self.dialect.known
        while True:
            parameters = apply(change, given)
            begun = False
            try:
                with closing(post(change, parameters)) as pieces:
                    for piece in pieces:
                        if not begun:
                            begun = True
                            self.dialect.accepted(change)
                        yield piece
                return
            except ModelError as error:
                changed = None if begun else self.dialect.changed(error, change, parameters, system=system, own=own)
                if changed is None:
                    raise
                change = changed


class Call:
    """One model call, which another thread can end: at a user's request, or at the deadline.

    Ending closes the connection: the model server sees that, and can stop generating.
    """

    def __init__(
        self,
        timeout: float,
        request_id: str = "",
        session: str = "",
        *,
        loading_timeout: float = 0.0,
        assignment: Assignment | None = None,
    ) -> None:
        """Times in seconds: the reply may take `timeout` from its first token on, which may take `loading_timeout` or
        `timeout`, whichever is longer.

        The model server gets `request_id`, if any, for its log. Calls of one `session` go to one server as far as
        possible.
        """
        self.session = session
        #: The request that is answered; None for a question of `model-check`.
        self.assignment = assignment
        self.request_id = request_id
        #: What the model server gets as the parent of its spans; '' without traces.
        self.traceparent = ""
        #: The address of the server that was asked last.
        self.server = ""
        self.deadline = time.monotonic() + max(timeout, loading_timeout)
        #: What the request asks of the model, see protocol/openai/options.py; None for one that leaves all to settings.
        self.options: Mapping[str, Any] | None = None
        #: Tokens of the reply that were generated before: they count towards its limit.
        self.generated = 0
        #: For each server the ways to continue a reply that it has refused in this call.
        self.refused: dict[Continuation, set[Way]] = {}
        #: Whether the first token has arrived.
        self.begun = False
        #: Set where another server can be asked: this one gets no time to load.
        self.impatient = False
        #: The loop in whose thread the call runs, if it does: see event_loop.py.
        self.loop: ModelLoop | None = None
        self._timeout = timeout
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self._reason: str | None = None

    @property
    def cancelled(self) -> str | None:
        """The reason for which the call was ended, or None."""
        return self._reason

    def cancel(self, reason: str) -> None:
        """Ends the call; the first reason given stays."""
        with self._lock:
            self._reason = self._reason or reason
            if self._end is not None:
                self._end()

    def on_cancel(self, end: Callable[[], None]) -> None:
        """Sets what ends the call from now on, in any thread, without blocking. Raises `CallCancelled`."""
        with self._lock:
            self._end = end
            if self._reason is not None:
                end()
        self.check()

    def begin(self) -> None:
        """Notes the first token: from now on the reply may take `timeout`."""
        if not self.begun:
            self.begun = True
            self.deadline = time.monotonic() + self._timeout

    def done(self) -> None:
        """Forgets the connection, which goes back to the pool: cancelling no longer ends it."""
        with self._lock:
            self._end = None

    def check(self) -> None:
        """Raises `CallCancelled` if the call has been ended."""
        if self._reason is not None:
            raise CallCancelled(self._reason)
