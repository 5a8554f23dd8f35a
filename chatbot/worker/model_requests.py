"""What the model is asked for one attempt at a reply: how much of the history, and whether to continue a reply."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from chatbot.config import Settings
from chatbot.sessions.leases import Assignment
from chatbot.worker.item_prompts import newest, requested_conversation
from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import CannotContinue
from chatbot.worker.models.errors import ContentRefused, PromptTooLong
from chatbot.worker.prompts import PromptMessage, estimated_tokens, fit, prompt_messages
from chatbot.worker.stream import Stream

logger = logging.getLogger(__name__)


class ModelRequests:
    """Asks one model for replies, again with less or from the beginning where it refuses."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._model = model
        self._instructions = estimated_tokens(settings.model.system_prompt) if settings.model.system_prompt else 0
        self._max_prompt_tokens = settings.model.max_prompt_tokens - self._instructions
        self._max_new_tokens = settings.model.max_new_tokens
        self._keep_reasoning = settings.model.keep_reasoning

    def estimated_usage(self, work: Assignment) -> Usage:
        """The tokens of a reply that another worker has begun, whose call is lost."""
        prompt = sum(estimated_tokens(str(message["msg"])) for message in work.messages)
        return Usage(self._instructions + prompt, 0, estimated_tokens(work.partial), estimated=True)

    def pieces(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        """The chunks of the reply, or of what an earlier attempt left of it to generate."""
        return self._rest(work, call, stream) if stream.carried else self._request(work, call, stream)

    def _rest(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        """Those of a reply that an earlier attempt has begun."""
        if self.continues(work):
            if stream.generated >= self._limit(work):
                yield Piece("", "length")
                return
            call.generated = stream.generated
            logger.info("the reply goes on after %d characters", stream.carried)
            try:
                yield from self._request(work, call, stream)
                return
            except CannotContinue as error:
                if work.sends_text:
                    # Events were sent with the text: another attempt would change it.
                    raise
                logger.info("the reply begins again: %s", error)
        stream.begin_again()
        call.generated = 0
        yield from self._request(work, call, stream)

    def continues(self, work: Assignment) -> bool:
        """Whether the model may be asked to continue a reply. One in a prescribed form has to be generated whole."""
        options = work.options or {}
        form = options.get("text", {}).get("format", {}).get("type", "text")
        return self._model.continues and not options.get("tools") and form == "text"

    def _limit(self, work: Assignment) -> int:
        """Tokens of the reply at most."""
        asked = (work.options or {}).get("max_output_tokens")
        return min(asked, self._max_new_tokens) if asked else self._max_new_tokens

    def _request(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        if work.options is None:
            return self._with_fitting_history(work, call, stream)
        return self._with_options(work, work.options, call, stream)

    def _ask(self, conversation: Sequence[PromptMessage], call: Call, stream: Stream) -> Pieces:
        stream.prompt_tokens = self._estimated(conversation)
        begun = [PromptMessage("assistant", stream.text, begins=True)] if stream.carried else []
        return self._model.generate([*conversation, *begun], call)

    def _with_fitting_history(self, work: Assignment, call: Call, stream: Stream) -> Pieces:
        """Asks again with less of the history when the prompt is refused.

        After a prompt that is too long: with what fits half of its tokens. After the refusal of a content filter, which
        sees the whole prompt: with the newest message alone.
        """
        history, room = prompt_messages(work.messages, self._keep_reasoning), self._max_prompt_tokens
        conversation = fit(history, room)
        while True:
            try:
                yield from self._ask(conversation, call, stream)
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
                    if too_long:
                        error.clients_fault = self._exceeds(conversation)
                    raise
                room = self._less(conversation, room) if too_long else 0
                conversation = fit(history, room)
                logger.warning("retrying with the newest messages alone, %d: %s", len(conversation), error)

    @staticmethod
    def _less(refused: Sequence[PromptMessage], room: int) -> int:
        """Half of the tokens, halved again until the refused prompt is too long for them."""
        size = sum(message.tokens for message in refused)
        while room >= size:
            room //= 2
        return room

    def _with_options(self, work: Assignment, options: Mapping[str, Any], call: Call, stream: Stream) -> Pieces:
        """The chunks of a reply to a request with options: it says whether older messages may be left out."""
        call.options = options
        messages: Sequence[Mapping[str, Any]] = work.messages
        while True:
            conversation = requested_conversation(messages)
            try:
                if self._exceeds(conversation):
                    raise PromptTooLong("too_long", "a request to /v1 has more than MAX_PROMPT_TOKENS, as estimated")
                yield from self._ask(conversation, call, stream)
                return
            except PromptTooLong as error:
                if stream.begun:
                    yield Piece("", "length")
                    return
                if options.get("truncation") != "auto" or len(messages) == 1:
                    # Functions and forms are part of the prompt, as the server makes it.
                    error.clients_fault = self._exceeds(conversation, json.dumps(options, ensure_ascii=False))
                    raise
                messages = newest(messages)
                logger.warning("retrying with the newest messages alone, %d: %s", len(messages), error)

    def _exceeds(self, conversation: Sequence[PromptMessage], more: str = "") -> bool:
        """Whether the prompt, with `more` text, is longer than MAX_PROMPT_TOKENS, as estimated."""
        added = estimated_tokens(more) if more else 0
        return sum(message.tokens for message in conversation) + added > self._max_prompt_tokens

    def _estimated(self, conversation: Sequence[PromptMessage]) -> int:
        return self._instructions + sum(message.tokens for message in conversation)
