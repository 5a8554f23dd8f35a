"""One attempt at a reply: asks the model and streams what it answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from chatbot.config import Settings
from chatbot.sessions.leases import Assignment
from chatbot.telemetry.counters import FIRST_TOKEN, PIECES, REPLY_TIME, TOKENS, Counts
from chatbot.worker.item_prompts import newest, requested_conversation
from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import CannotContinue
from chatbot.worker.models.errors import ContentRefused, PromptTooLong
from chatbot.worker.models.protocols.request_options import allowed
from chatbot.worker.prompts import PromptMessage, estimated_size, estimated_tokens, fit, prompt_messages
from chatbot.worker.stream import Stream

logger = logging.getLogger(__name__)

#: Characters of a reply. A longer one comes from a server that ignores MAX_NEW_TOKENS.
#: As UTF-8 a reply of this length still fits into the outbox of a socket, for a client that reconnects.
MAX_REPLY_LENGTH = 200_000


class Generator:
    """Generates replies with one model."""

    def __init__(self, model: Model, settings: Settings, counts: Counts) -> None:
        self._model = model
        self._counts = counts
        self._instructions = estimated_tokens(settings.model.system_prompt) if settings.model.system_prompt else 0
        self._max_prompt_tokens = settings.model.max_prompt_tokens - self._instructions
        self._max_new_tokens = settings.model.max_new_tokens
        self._keep_reasoning = settings.model.keep_reasoning

    def generate(self, work: Assignment, call: Call, stream: Stream) -> str:
        """Streams the reply into `stream`, with its usage; returns the finish reason.

        Raises `ModelError`, and `CallCancelled` once the call is ended.
        """
        began = time.monotonic()
        finish_reason = "stop"
        chunks = 0
        try:
            with closing(self._pieces(work, call, stream)) as pieces:
                for piece in pieces:
                    text, thought = piece.text, piece.reasoning
                    if piece.retracts and work.options is not None:
                        # Events were sent with the text: it stays text.
                        text, thought = thought + text, ""
                    elif piece.retracts:
                        stream.retract()
                    last = piece.finish_reason is not None
                    count = piece.chunks if text or thought or (piece.calls and not last) else 0
                    stream.generated += count
                    stream.add(text[: MAX_REPLY_LENGTH - len(stream.text)], thought)
                    stream.usage = piece.usage or stream.usage
                    if piece.calls:
                        stream.add_calls(allowed(piece.calls, work.options or {}), last=last)
                    chunks += count
                    if stream.first_after is None and stream.begun:
                        stream.first_after = time.monotonic() - began
                        self._counts.observe(FIRST_TOKEN, stream.first_after)
                    finish_reason = piece.finish_reason or finish_reason
                    if len(stream.text) >= MAX_REPLY_LENGTH:
                        logger.warning(
                            "the reply exceeds the maximum length and is cut at %d characters", len(stream.text)
                        )
                        finish_reason = "length"
                        break
        finally:
            self._counts.add(PIECES, amount=chunks)
            self._count_tokens(stream, call.generated)
        took = time.monotonic() - began
        self._counts.observe(REPLY_TIME, took)
        line = "replied with %d characters in %.3f s, the first after %.3f s (%s); %s"
        first = stream.first_after or 0.0
        logger.info(line, len(stream.text), took, first, finish_reason, _in_words(stream.usage))
        return finish_reason

    def _count_tokens(self, stream: Stream, before: int) -> None:
        """Counts the tokens that the server reported; without a report, estimates those of the stream.

        The reply's usage includes the tokens generated `before`, in earlier attempts.
        """
        reported = stream.usage
        if reported is None or reported.estimated:
            stream.usage = Usage(stream.prompt_tokens, 0, stream.generated, estimated=True)
            return
        # Of the attempts before, the prompts are not known.
        stream.usage = replace(reported, completion=before + (reported.completion or 0), estimated=before > 0)
        self._counts.add(TOKENS, "prompt", reported.prompt or 0)
        self._counts.add(TOKENS, "cached", reported.cached or 0)
        self._counts.add(TOKENS, "completion", reported.completion or 0)

    def estimated_usage(self, work: Assignment) -> Usage:
        """The tokens of a reply that another worker has begun, whose call is lost."""
        prompt = sum(estimated_tokens(str(message["msg"])) for message in work.messages)
        return Usage(self._instructions + prompt, 0, estimated_tokens(work.partial), estimated=True)

    def _pieces(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        """The chunks of the reply, or of what an earlier attempt left of it to generate."""
        if stream.carried:
            if self.continues(work):
                if stream.generated >= self._limit(work):
                    yield Piece("", "length")
                    return
                call.generated = stream.generated
                logger.info("the reply goes on after %d characters", stream.carried)
                try:
                    yield from self._asked(work, call, stream)
                    return
                except CannotContinue as error:
                    if work.options is not None:
                        # Events were sent with the text: another attempt would change it.
                        raise
                    logger.info("the reply begins again: %s", error)
            stream.begin_again()
            call.generated = 0
        yield from self._asked(work, call, stream)

    def continues(self, work: Assignment) -> bool:
        """Whether the model may be asked to continue a reply. One in a prescribed form has to be generated whole."""
        options = work.options or {}
        form = options.get("text", {}).get("format", {}).get("type", "text")
        return self._model.continues and not options.get("tools") and form == "text"

    def _limit(self, work: Assignment) -> int:
        """Tokens of the reply at most."""
        asked = (work.options or {}).get("max_output_tokens")
        return min(asked, self._max_new_tokens) if asked else self._max_new_tokens

    def _asked(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        if work.options is None:
            yield from self._fitting(work, call, stream)
        else:
            yield from self._requested(work, work.options, call, stream)

    def _model_pieces(self, conversation: Sequence[PromptMessage], call: Call, stream: Stream) -> Pieces:
        stream.prompt_tokens = self._estimated(conversation)
        begun = [PromptMessage("assistant", stream.text)] if stream.carried else []
        return self._model.generate([*conversation, *begun], call)

    def _fitting(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        """Asks again with less of the history when the prompt is refused: what fits half of the tokens of a prompt that
        is too long, and only the newest message when a content filter refuses it, as the filter sees the whole prompt.
        """
        history, room = prompt_messages(work.messages, self._keep_reasoning), self._max_prompt_tokens
        conversation = fit(history, room)
        while True:
            try:
                yield from self._model_pieces(conversation, call, stream)
                return
            except (PromptTooLong, ContentRefused) as error:
                too_long = isinstance(error, PromptTooLong)
                alone = len(conversation) == 1
                if stream.begun or (stream.carried and (alone or not too_long)):
                    # Prompt and reply together have filled the context, or the filter has seen the reply.
                    logger.warning("the reply is cut at %d characters: %s", len(stream.text), error)
                    yield Piece("", "length" if too_long else "content_filter")
                    return
                if alone:
                    raise
                room = self._less(conversation, room) if too_long else 0
                conversation = fit(history, room)
                logger.warning("retrying with the last %d messages: %s", len(conversation), error)

    @staticmethod
    def _less(refused: Sequence[PromptMessage], room: int) -> int:
        """Half of the tokens, halved again until the refused prompt is too long for them."""
        size = sum(estimated_tokens(message.text) for message in refused)
        while room >= size:
            room //= 2
        return room

    def _requested(self, work: Assignment, options: Mapping[str, Any], call: Call, stream: Stream) -> Pieces:
        """The chunks of a reply to a request with options: it says whether older messages may be left out."""
        call.options = options
        messages: Sequence[Mapping[str, Any]] = work.messages
        while True:
            conversation = requested_conversation(messages)
            try:
                if sum(map(estimated_size, conversation)) > self._max_prompt_tokens:
                    raise PromptTooLong("too_long", "a request to /v1 has more than MAX_PROMPT_TOKENS, as estimated")
                yield from self._model_pieces(conversation, call, stream)
                return
            except PromptTooLong as error:
                if stream.begun:
                    yield Piece("", "length")
                    return
                if options.get("truncation") != "auto" or len(messages) == 1:
                    raise
                messages = newest(messages)
                logger.warning("retrying with the last %d messages: %s", len(messages), error)

    def _estimated(self, conversation: Sequence[PromptMessage]) -> int:
        return self._instructions + sum(map(estimated_size, conversation))


def _in_words(usage: Usage | None) -> str:
    if usage is None or usage.estimated:
        return "the server did not report its tokens"
    return f"tokens: {usage.prompt or 0} of the prompt, {usage.cached or 0} cached; {usage.completion or 0} generated"
