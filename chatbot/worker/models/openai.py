"""The OpenAI protocols, which most servers offer: `/v1/chat/completions`, and `/v1/completions` for base models.

Source: the OpenAI API reference, "Chat completions" and "Completions", and their streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatbot.config import OPENAI_CHAT, Settings
from chatbot.worker.models import sse
from chatbot.worker.models.base import Call, ModelProtocol, Piece, Pieces
from chatbot.worker.models.errors import RequestRefused, TransientModelError
from chatbot.worker.models.http import ModelEndpoint, ModelResponse
from chatbot.worker.models.http_errors import raise_for_error
from chatbot.worker.prompts import STOP_SEQUENCES, PromptMessage, chat_messages, completion_prompt

_FINISH_REASONS = {"length": "length", "max_tokens": "length"}


class OpenAIProtocol(ModelProtocol):
    """A model behind one of the OpenAI protocols; `api` says which."""

    def __init__(self, endpoint: ModelEndpoint, api: str, settings: Settings) -> None:
        self._endpoint = endpoint
        self._chat = api == OPENAI_CHAT
        self._system_prompt = settings.model.system_prompt
        self._max_new_tokens = settings.model.max_new_tokens
        #: The field of the length limit: newer models of OpenAI's own service accept only `max_completion_tokens`.
        self._limit = "max_tokens"
        self._fields: dict[str, Any] = {"model": settings.model.name, "stream": True}
        for name in ("temperature", "top_p", "seed"):
            if (value := getattr(settings.model, name)) is not None:
                self._fields[name] = value
        if not self._chat:
            self.stop_sequences = STOP_SEQUENCES
            self._fields["stop"] = list(STOP_SEQUENCES)

    def _request(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        request: dict[str, Any] = dict(self._fields)
        if self._chat:
            request["messages"] = chat_messages(conversation, self._system_prompt)
        else:
            request["prompt"] = completion_prompt(conversation)
        limit = self._limit
        try:
            yield from self._post(request | {limit: self._max_new_tokens}, call)
        except RequestRefused as error:
            if limit != "max_tokens" or "max_completion_tokens" not in error.server_text:
                raise
            self._limit = "max_completion_tokens"
            yield from self._post(request | {self._limit: self._max_new_tokens}, call)

    def _post(self, request: dict[str, Any], call: Call) -> Pieces:
        with self._endpoint.post(request, call) as response:
            yield from self._stream(response) if response.is_stream else self._whole(response)

    def _stream(self, response: ModelResponse) -> Pieces:
        pieces = 0
        for data in sse.events(response.chunks()):
            if data == "[DONE]":
                yield Piece("", "stop")
                return
            event = sse.parse(data)
            raise_for_error(event)
            choice = _choice(event)
            if choice is None:
                # Usage statistics, or an event that only this server has.
                continue
            text = choice.get("text")
            if text is None and isinstance(choice.get("delta"), dict):
                text = choice["delta"].get("content")
            if isinstance(text, str) and text:
                pieces += 1
                yield Piece(text)
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason:
                # Not every server sends [DONE] after it.
                yield Piece("", _FINISH_REASONS.get(reason, "stop"))
                return
        raise TransientModelError("cut_off", f"the stream ended after {pieces} chunks, without a finish reason")

    def _whole(self, response: ModelResponse) -> Pieces:
        document = response.json()
        raise_for_error(document)
        choice = _choice(document) if isinstance(document, dict) else None
        if choice is None:
            raise TransientModelError("bad_answer", "the answer holds no choices")
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else choice.get("text")
        if not isinstance(text, str):
            raise TransientModelError("bad_answer", "the answer's choice holds no text")
        yield Piece(text, _FINISH_REASONS.get(str(choice.get("finish_reason")), "stop"))


def _choice(document: dict[str, Any]) -> dict[str, Any] | None:
    choices = document.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return None
