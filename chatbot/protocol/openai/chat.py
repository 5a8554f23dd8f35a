"""Chat completions of OpenAI: requests in the form of `CreateRequest`, and answers from a `View`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chatbot.protocol.compact_json import to_json
from chatbot.protocol.openai.chat_params import limit_name
from chatbot.protocol.openai.create import CreateRequest
from chatbot.protocol.openai.items import (
    MAX_ITEMS,
    ROLES,
    Item,
    image_part,
    invalid,
    message,
    parse_input,
    parse_item,
    unknown_role,
    unsupported,
)
from chatbot.protocol.openai.options import parse_options, parse_tools
from chatbot.protocol.openai.response import View, epoch, usage

#: Options with the same name and meaning in Open Responses.
_SAME = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "parallel_tool_calls", "metadata")
#: What does not exist here, each with the value that asks for nothing.
_ABSENT: dict[str, Any] = {"n": 1, "logprobs": False, "audio": None, "functions": None, "logit_bias": {}}
#: Stands for the text of a chunk.
_MARK = "\x00text\x00"
#: Stop sequences of a request, and characters of one.
_MAX_STOPS, _MAX_STOP = 4, 200
#: Bits of a seed.
_SEED_BITS = 63


def parse_chat(document: Mapping[str, Any]) -> CreateRequest:
    """The body of `POST /v1/chat/completions`. Raises `ClientError`."""
    for name, nothing in _ABSENT.items():
        if document.get(name) not in (None, nothing):
            raise unsupported(name, f"the field {name}")
    model = document.get("model")
    if not isinstance(model, str | None):
        raise invalid("model", "model must be a text", "invalid_type")
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "messages must be a list with at least one message", "missing_required_parameter")
    if len(messages) > MAX_ITEMS:
        raise invalid("messages", f"messages has at most {MAX_ITEMS} entries")
    items = [item for number, raw in enumerate(messages) for item in _items(raw, f"messages[{number}]")]
    stream = document.get("stream")
    if not isinstance(stream, bool | None):
        raise invalid("stream", "stream must be true or false", "invalid_type")
    return CreateRequest(items, _options(document), model, stream=bool(stream), store=False, deltas="chunks")


def includes_usage(document: Mapping[str, Any]) -> bool:
    """Whether the last chunk of a stream reports the tokens."""
    options = document.get("stream_options")
    if not isinstance(options, dict | None):
        raise invalid("stream_options", "stream_options must be an object", "invalid_type")
    return isinstance(options, dict) and options.get("include_usage") is True


def _options(document: Mapping[str, Any]) -> dict[str, Any]:
    """The options under their names in Open Responses, with `stop` and `seed`, which that does not have."""
    given = {name: document.get(name) for name in _SAME}
    given["max_output_tokens"] = document.get(limit_name(document))
    if document.get("tools"):
        given["tools"] = _tools(document["tools"])
    choice = document.get("tool_choice")
    if choice is not None:
        given["tool_choice"] = _tool_choice(choice)
    if document.get("response_format"):
        given["text"] = {"format": _format(document["response_format"])}
    options = parse_options(given)
    stop = document.get("stop")
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(s, str) and 0 < len(s) <= _MAX_STOP for s in stops):
            raise invalid("stop", f"stop must be a text or a list of texts, each of at most {_MAX_STOP} characters")
        if len(stops) > _MAX_STOPS:
            raise invalid("stop", f"stop has at most {_MAX_STOPS} texts")
        options["stop"] = stops
    seed = document.get("seed")
    if seed is not None:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed.bit_length() > _SEED_BITS:
            raise invalid("seed", "seed must be an integer", "invalid_type")
        options["seed"] = seed
    return options


def _tools(value: Any) -> Any:
    if not isinstance(value, list):
        raise invalid("tools", "tools must be a list", "invalid_type")
    return parse_tools([_tool(raw) for raw in value])


def _tool(raw: Any) -> Any:
    if isinstance(raw, dict) and isinstance(raw.get("function"), dict):
        return {**raw["function"], "type": raw.get("type")}
    return raw


def _tool_choice(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        return {"type": "function", "name": value["function"].get("name")}
    return value


def _format(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("json_schema"), dict):
        return {**value["json_schema"], "type": value.get("type")}
    return value


def _items(raw: Any, param: str) -> list[Item]:
    """The items of one message: a message of the assistant may hold calls besides its text."""
    if not isinstance(raw, dict):
        raise invalid(param, f"{param} must be an object", "invalid_type")
    role, content = raw.get("role"), raw.get("content")
    if role == "tool":
        output = {"type": "function_call_output", "call_id": raw.get("tool_call_id"), "output": _plain(content, param)}
        return _present(parse_item(output, param))
    if role == "assistant":
        calls = raw.get("tool_calls") or []
        if not isinstance(calls, list):
            raise invalid(f"{param}.tool_calls", f"{param}.tool_calls must be a list", "invalid_type")
        said = [] if content in (None, "", []) else _present(parse_item({"role": role, "content": content}, param))
        if not said and not calls:
            said = [message("assistant", [])]
        return [*said, *parse_input([_call(call, param) for call in calls], f"{param}.tool_calls")]
    if role not in tuple(ROLES):
        raise unknown_role(param, (*ROLES, "tool"))
    if isinstance(content, list):
        content = [_part(part, f"{param}.content[{number}]") for number, part in enumerate(content)]
    return _present(parse_item({"type": "message", "role": role, "content": content}, param))


def _present(item: Item | None) -> list[Item]:
    return [] if item is None else [item]


def _call(call: Any, param: str) -> Item:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise invalid(f"{param}.tool_calls", f"{param}.tool_calls must hold calls of functions", "invalid_type")
    return {
        "type": "function_call",
        "call_id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments"),
    }


def _part(part: Any, param: str) -> Any:
    if isinstance(part, dict) and part.get("type") == "image_url":
        image = part.get("image_url")
        url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, None)
        return image_part(url, detail, param)
    return part


def _plain(content: Any, param: str) -> Any:
    """The output of a tool: a text, or the text of its parts."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise invalid(f"{param}.content", f"{param}.content must be a text or parts of text", "invalid_type")
    return "".join(part["text"] for part in content)


def completion(view: View) -> dict[str, Any]:
    """The answer of a request without `stream`."""
    said: dict[str, Any] = {"role": "assistant", "content": view.text or None, "refusal": None}
    if view.reasoning:
        # Not OpenAI's field, but that of most servers whose models think.
        said["reasoning_content"] = view.reasoning
    if view.calls:
        said["tool_calls"] = tool_calls(view)
    elif said["content"] is None:
        said["content"] = ""
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish_reason(view)}
    return {**_head(view, "chat.completion"), "choices": [choice], "usage": chat_usage(view)}


def chunk(view: View, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk of a stream."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_head(view, "chat.completion.chunk"), "choices": [choice]}


def text_chunks(view: View) -> Callable[[str], str]:
    """A function that returns the JSON of a chunk with text; most of it is the same for all chunks of a stream."""
    before, after = to_json(chunk(view, {"content": _MARK})).split(to_json(_MARK))
    return lambda text: f"{before}{to_json(text)}{after}"


def usage_chunk(view: View) -> dict[str, Any]:
    """The last chunk of a stream whose request asks for the tokens."""
    return {**_head(view, "chat.completion.chunk"), "choices": [], "usage": chat_usage(view)}


def tool_calls(view: View) -> list[dict[str, Any]]:
    """The function calls of a reply."""
    return [
        {
            "id": call["call_id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in view.calls
    ]


class CallDeltas:
    """The function calls of one stream: what of them was sent."""

    def __init__(self) -> None:
        self._sent: list[str] = []

    def new(self, view: View) -> list[dict[str, Any]] | None:
        """The parts that are new; None where other ones were sent."""
        parts = []
        for number, call in enumerate(tool_calls(view)):
            function = call["function"]
            arguments = function["arguments"]
            if number == len(self._sent):
                self._sent.append(arguments)
                parts.append({"index": number, **call})
                continue
            before = self._sent[number]
            if not arguments.startswith(before):
                return None
            if len(arguments) > len(before):
                self._sent[number] = arguments
                parts.append({"index": number, "function": {"arguments": arguments[len(before) :]}})
        return parts if len(view.calls) >= len(self._sent) else None


def finish_reason(view: View) -> str:
    """Why the reply ended."""
    if view.incomplete_reason:
        return "length" if view.incomplete_reason == "max_output_tokens" else "content_filter"
    return "tool_calls" if view.calls else "stop"


def chat_usage(view: View) -> dict[str, Any] | None:
    """The tokens of a reply; None when they are not known."""
    counted = usage(view.reply)
    if counted is None:
        return None
    return {
        "prompt_tokens": counted["input_tokens"],
        "completion_tokens": counted["output_tokens"],
        "total_tokens": counted["total_tokens"],
        "prompt_tokens_details": counted["input_tokens_details"],
        "completion_tokens_details": counted["output_tokens_details"],
    }


def _head(view: View, kind: str) -> dict[str, Any]:
    return {
        "id": view.id,
        "object": kind,
        "created": epoch(view.human["timestamp"]),
        "model": view.options.get("model", ""),
    }
