"""The OpenAI protocols, which most servers offer: `/v1/chat/completions`, and `/v1/completions` for base models.

Source: the OpenAI API reference, "Chat completions" and "Completions", and their streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatbot.config import OPENAI_CHAT, Settings
from chatbot.worker.models.base import Call, ModelProtocol, Pieces
from chatbot.worker.models.dialect import Change, Dialect
from chatbot.worker.models.http import ModelEndpoint
from chatbot.worker.models.reading import read_reply
from chatbot.worker.prompts import STOP_SEQUENCES, PromptMessage, chat_messages, completion_prompt

#: Parameters that a request can do without: replies end at stop sequences in any case, and are read streamed or whole.
_DROPPABLE = ("temperature", "top_p", "seed", "stop", "stream", "stream_options")
#: Newer models of OpenAI's own service accept only the second name; the protocol for base models knows only the first.
_CHAT_RENAMES = {"max_tokens": "max_completion_tokens"}


class OpenAIProtocol(ModelProtocol):
    """A model behind one of the OpenAI protocols; `api` says which."""

    def __init__(self, endpoint: ModelEndpoint, api: str, settings: Settings) -> None:
        self._endpoint = endpoint
        self._chat = api == OPENAI_CHAT
        self._system_prompt = settings.model.system_prompt
        self._model = settings.model.name
        self._parameters: dict[str, Any] = {
            "stream": True,
            # The last event then reports the tokens.
            "stream_options": {"include_usage": True},
            "max_tokens": settings.model.max_new_tokens,
        }
        for name in ("temperature", "top_p", "seed"):
            if (value := getattr(settings.model, name)) is not None:
                self._parameters[name] = value
        if not self._chat:
            self.stop_sequences = STOP_SEQUENCES
            self._parameters["stop"] = list(STOP_SEQUENCES)
        renames = _CHAT_RENAMES if self._chat else None
        self.dialect = Dialect(endpoint.public_address, droppable=_DROPPABLE, renames=renames)

    def _request(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        yield from self._adapted(
            lambda change, parameters: self._post(conversation, change, parameters, call),
            system=self._chat and bool(self._system_prompt),
        )

    def _post(
        self, conversation: Sequence[PromptMessage], change: Change, parameters: dict[str, Any], call: Call
    ) -> Pieces:
        request = {"model": self._model, **parameters}
        if "stream" not in request:
            request.pop("stream_options", None)
        if not self._chat:
            request["prompt"] = prompt = completion_prompt(conversation)
        elif change.no_system:
            request["messages"], prompt = _instructed(chat_messages(conversation, ""), self._system_prompt), ""
        else:
            request["messages"], prompt = chat_messages(conversation, self._system_prompt), ""
        with self._endpoint.post(request, call) as response:
            yield from read_reply(response, prompt=prompt)


def _instructed(messages: list[dict[str, str]], instructions: str) -> list[dict[str, str]]:
    """The messages, with the instructions before the first human message."""
    first, *others = messages
    return [{**first, "content": f"{instructions}\n\n{first['content']}"}, *others]
