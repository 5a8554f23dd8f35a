"""The parameters and messages of chat completions for a request that names its own options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chatbot.protocol.openai.options import allowed_functions
from chatbot.worker.prompts import PromptMessage

#: Options of a request with the same name in chat completions.
_SAME = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop")


def with_options(parameters: Mapping[str, Any], options: Mapping[str, Any], max_tokens: str) -> dict[str, Any]:
    """A protocol's own parameters, replaced by those that the request names. The most tokens of a reply stay a limit:
    `max_tokens` is the name of that parameter."""
    found = dict(parameters)
    found.update((name, options[name]) for name in _SAME if options.get(name) is not None)
    if options.get("max_output_tokens"):
        found[max_tokens] = min(options["max_output_tokens"], parameters[max_tokens])
    return found


def named(options: Mapping[str, Any] | None) -> frozenset[str]:
    """The parameters that the request itself names, with values of its own."""
    found = {name for name in (*_SAME, "parallel_tool_calls") if (options or {}).get(name) is not None}
    return frozenset(found | ({"reasoning_effort"} if (options or {}).get("reasoning") else set()))


def with_tools(parameters: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with the request's functions, and with the form of its text."""
    found = dict(parameters)
    if options.get("tools"):
        found["tools"] = [_tool(tool) for tool in options["tools"]]
        found["tool_choice"] = _choice(options.get("tool_choice", "auto"))
        if options.get("parallel_tool_calls") is not None:
            found["parallel_tool_calls"] = options["parallel_tool_calls"]
    form = options.get("text", {}).get("format", {})
    if form.get("type") == "json_object":
        found["response_format"] = {"type": "json_object"}
    elif form.get("type") == "json_schema":
        schema = {
            name: form[name] for name in ("name", "description", "schema", "strict") if form.get(name) is not None
        }
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    effort = (options.get("reasoning") or {}).get("effort")
    if isinstance(effort, str):
        found["reasoning_effort"] = effort
    return found


def requested_messages(conversation: Sequence[PromptMessage], system_prompt: str) -> list[dict[str, Any]]:
    """The messages as the client gave them; the server's own instructions go first where the client gave none."""
    begun = conversation[0].role == "system"
    first = [{"role": "system", "content": system_prompt}] if system_prompt and not begun else []
    return [*first, *(_message(message) for message in conversation)]


def allowed(calls: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The calls of functions that the request allows."""
    names = allowed_functions(options)
    return tuple(call for call in calls if call["name"] in names)


def _message(message: PromptMessage) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
    content: Any = list(message.parts) if message.parts else message.text
    if message.calls:
        return {"role": "assistant", "content": content or None, "tool_calls": list(message.calls)}
    return {"role": message.role, "content": content}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice["type"] == "function":
        return {"type": "function", "function": {"name": choice["name"]}}
    # What the model calls besides those allowed is dropped.
    return choice["mode"]
