"""The OpenAI protocols, which most servers offer: `/v1/chat/completions`, and `/v1/completions` for base models.

Source: the OpenAI API reference, "Chat completions" and "Completions", and their streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from chatbot.config import OPENAI_CHAT, Settings
from chatbot.worker.models.answers.piece import Pieces
from chatbot.worker.models.answers.reading import read_reply
from chatbot.worker.models.base import ModelProtocol
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import Continuation, Way
from chatbot.worker.models.dialect import Change, Dialect, remaining
from chatbot.worker.models.http.endpoint import ModelEndpoint
from chatbot.worker.models.protocols.request_options import named, requested_messages, with_options, with_tools
from chatbot.worker.prompts import STOP_SEQUENCES, PromptMessage, chat_messages, completion_prompt

#: Parameters that a request can do without: replies end at stop sequences in any case, and are read streamed or whole.
_DROPPABLE = (
    *("temperature", "top_p", "seed", "stop", "stream", "stream_options", "prompt_cache_key"),
    *("presence_penalty", "frequency_penalty", "parallel_tool_calls", "reasoning_effort"),
)
#: Ways to continue a reply that are tried. A server that does not know them refuses them, or goes on because the last
#: message is the assistant's, as llama.cpp does. One that does neither is known by its answer.
_CHAT_WAYS: tuple[Way, ...] = ("continue_final_message", "prefix")
#: Stop sequences that servers take.
_MAX_STOPS = 4
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
        self.continuation = _continuation(endpoint.public_address, settings.model.continuing, chat=self._chat)

    def _request(self, conversation: Sequence[PromptMessage], call: Call, way: Way | None) -> Pieces:
        given, options = self._parameters, call.options
        if options is not None:
            given = with_options(given, options, "max_tokens")
            if self._chat:
                given = with_tools(given, options)
            else:
                given["stop"] = [*STOP_SEQUENCES, *options.get("stop", ())][:_MAX_STOPS]
        if self._chat and call.session:
            # Routers keep a session at one server by it. A model's server takes it for a hint, or ignores it.
            given = {**given, "prompt_cache_key": call.session}
        return self._adapted(
            lambda change, parameters: self._post(conversation, change, parameters, call, way),
            remaining(given, "max_tokens", call.generated),
            system=self._chat and (bool(self._system_prompt) or conversation[0].role == "system"),
            own=named(options),
        )

    def _post(
        self,
        conversation: Sequence[PromptMessage],
        change: Change,
        parameters: dict[str, Any],
        call: Call,
        way: Way | None,
    ) -> Pieces:
        request = {"model": self._model, **parameters}
        if "stream" not in request:
            request.pop("stream_options", None)
        if not self._chat:
            request["prompt"] = prompt = completion_prompt(conversation)
        elif call.options is not None:
            messages, prompt = requested_messages(conversation, self._system_prompt), ""
            request["messages"] = _without_system(messages) if change.no_system else messages
        elif change.no_system:
            request["messages"], prompt = _instructed(chat_messages(conversation, ""), self._system_prompt), ""
        else:
            request["messages"], prompt = chat_messages(conversation, self._system_prompt), ""
        if way is not None and self._chat:
            prompt = conversation[-1].text
            _continue(request, way)
        with self._endpoint.post(request, call) as response:
            yield from read_reply(response, prompt=prompt)


def _continuation(server: str, setting: str, *, chat: bool) -> Continuation:
    if setting == "off":
        return Continuation(server, (), proven=False)
    if not chat:
        return Continuation(server, ("prompt",), proven=True)
    if setting == "auto":
        return Continuation(server, _CHAT_WAYS, proven=False)
    return Continuation(server, (cast(Way, setting),), proven=True)


def _continue(request: dict[str, Any], way: Way) -> None:
    """Asks for the rest of the last message."""
    if way == "continue_final_message":
        request.update(continue_final_message=True, add_generation_prompt=False)
    elif way == "prefix":
        *messages, last = request["messages"]
        request["messages"] = [*messages, {**last, "prefix": True}]


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages, with those of the system as messages of the user, or before the first one's text."""
    first, *others = messages
    if first["role"] == "system" and others and isinstance(others[0]["content"], str):
        return _instructed(others, first["content"])
    return [{**message, "role": "user"} if message["role"] == "system" else message for message in messages]


def _instructed(messages: list[dict[str, Any]], instructions: str) -> list[dict[str, Any]]:
    """The messages, with the instructions before the first human message."""
    first, *others = messages
    return [{**first, "content": f"{instructions}\n\n{first['content']}"}, *others]
