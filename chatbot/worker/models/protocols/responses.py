"""The Responses protocol of OpenAI and of Open Responses: `POST /v1/responses`.

Sources: the OpenAPI document of openresponses.org, and "Responses" of the OpenAI API reference. Each request holds the
whole conversation, and asks the server to store nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chatbot.config import Settings
from chatbot.worker.models.answers.piece import Pieces
from chatbot.worker.models.answers.reading import read_reply
from chatbot.worker.models.base import ModelProtocol
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import Continuation, Way
from chatbot.worker.models.dialect import Dialect
from chatbot.worker.models.http.endpoint import ModelEndpoint
from chatbot.worker.models.protocols.request_options import with_options
from chatbot.worker.prompts import PromptMessage

#: Parameters that a request can do without.
_DROPPABLE = (
    *("temperature", "top_p", "stream", "store", "prompt_cache_key"),
    *("presence_penalty", "frequency_penalty", "parallel_tool_calls", "reasoning"),
)
#: Parameters that the protocol does not have; replies end at stop sequences in any case.
_UNKNOWN = ("seed", "stop")


class ResponsesProtocol(ModelProtocol):
    """A model behind `/v1/responses`."""

    #: The protocol has no way to ask for the rest of a message.
    continues = False

    def __init__(self, endpoint: ModelEndpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._instructions = settings.model.system_prompt
        self._model = settings.model.name
        self._parameters: dict[str, Any] = {
            "stream": True,
            "store": False,
            "max_output_tokens": settings.model.max_new_tokens,
        }
        for name in ("temperature", "top_p"):
            if (value := getattr(settings.model, name)) is not None:
                self._parameters[name] = value
        self.dialect = Dialect(endpoint.public_address, droppable=_DROPPABLE)
        self.continuation = Continuation(endpoint.public_address, (), proven=False)

    def _request(self, conversation: Sequence[PromptMessage], call: Call, way: Way | None) -> Pieces:
        given, options = self._parameters, call.options
        if options is not None:
            given = {**with_options(given, options, "max_output_tokens"), **_extensions(options)}
            given = {name: value for name, value in given.items() if name not in _UNKNOWN}
        if call.session:
            given = {**given, "prompt_cache_key": call.session}
        return self._adapted(lambda _, parameters: self._post(conversation, parameters, call), given)

    def _post(self, conversation: Sequence[PromptMessage], parameters: Mapping[str, Any], call: Call) -> Pieces:
        instructions = self._instructions
        if conversation[0].role == "system":
            instructions, conversation = conversation[0].text, conversation[1:]
        elif conversation[0].role == "assistant" and call.options is None:
            # A reply whose question is outside of the window is left out, as for other chat models.
            conversation = conversation[1:]
        request: dict[str, Any] = {"model": self._model, **parameters}
        if instructions:
            request["instructions"] = instructions
        request["input"] = [item for message in conversation for item in _items(message)]
        with self._endpoint.post(request, call) as response:
            yield from read_reply(response, names_end=True)


def _items(message: PromptMessage) -> Iterator[dict[str, Any]]:
    """The items of one message: a reply may hold calls besides its text."""
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.call_id, "output": message.text}
        return
    if message.parts:
        yield {"type": "message", "role": message.role, "content": [_part(part) for part in message.parts]}
    elif message.text or not message.calls:
        yield {"type": "message", "role": message.role, "content": message.text}
    for call in message.calls:
        yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of chat completions in the form of this protocol."""
    if part["type"] == "image_url":
        image = part["image_url"]
        return {"type": "input_image", "image_url": image["url"], "detail": image["detail"]}
    return {"type": "input_text", "text": part["text"]}


def _extensions(options: Mapping[str, Any]) -> dict[str, Any]:
    """Functions, the form of the text and the effort of the request, whose options have this protocol's names."""
    found: dict[str, Any] = {}
    if options.get("tools"):
        found["tools"] = [_present(tool) for tool in options["tools"]]
        found["tool_choice"] = options.get("tool_choice", "auto")
        if options.get("parallel_tool_calls") is not None:
            found["parallel_tool_calls"] = options["parallel_tool_calls"]
    form = options.get("text", {}).get("format", {})
    if form.get("type", "text") != "text":
        found["text"] = {"format": _present(form)}
    if reasoning := _present(options.get("reasoning") or {}):
        found["reasoning"] = reasoning
    return found


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
