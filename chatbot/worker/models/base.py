"""The interface of a text-generation model, and what the protocols of its servers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.answers.reply_text import ReplyText
from chatbot.worker.models.answers.thinking import Thinking
from chatbot.worker.models.call import Call
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
from chatbot.worker.models.errors import ModelError
from chatbot.worker.prompts import PromptMessage

_BEGAN_AGAIN = "the server began another reply"


class Model(ABC):
    """A text-generation model: takes a conversation, generates chunks of text and a finish reason."""

    #: Whether `generate` blocks nowhere but in requests to a model server, so that it can run in a `ModelLoop`.
    in_loop = False
    #: Whether `generate` may be asked to continue a reply.
    continues = False

    @abstractmethod
    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """The reply to the last message, in chunks as the model generates them. When that `begins` the reply: what
        follows it, or `CannotContinue` is raised.

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
        if conversation[-1].begins:
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
        if sure_end(partial) == len(partial) and self.continuation.ways and not self.continuation.proven:
            yield from self._repeated(conversation, call)
            return
        for way in self.continuation.ways:
            begun = False
            try:
                for end in sorted({sure_end(partial), len(partial)}):
                    if end == len(partial) and not self.continuation.proven:
                        raise CannotContinue(_BEGAN_AGAIN)
                    last = replace(conversation[-1], text=partial[:end])
                    seam = Seam(partial, end, self.continuation.works)
                    try:
                        with closing(self._answered([*conversation[:-1], last], call, way, seam)) as pieces:
                            for piece in pieces:
                                if not begun:
                                    begun = True
                                    self.continuation.refused(call.refused.pop(self.continuation, set()))
                                yield piece
                        return
                    except Diverged as diverged:
                        if diverged.again:
                            raise CannotContinue(_BEGAN_AGAIN) from None
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

    def _repeated(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        """What follows the last message in another reply that begins with it, as it does at temperature 0.

        That message is too short to show whether the server continues it. Raises `CannotContinue`.
        """
        seam = Seam(conversation[-1].text, 0, lambda: None)
        try:
            with closing(self._answered(conversation[:-1], call, None, seam)) as pieces:
                yield from pieces
        except Diverged:
            raise CannotContinue("the beginning is too short") from None

    def _answered(
        self,
        conversation: Sequence[PromptMessage],
        call: Call,
        way: Way | None = None,
        seam: Seam | None = None,
    ) -> Pieces:
        """The text, without stop sequences, apart from thinking; of a continuation what is behind the `seam`."""
        before = conversation[-1].text if conversation[-1].begins else ""
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
