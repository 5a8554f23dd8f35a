"""Function calls of the fake model: it calls a tool whenever it may, with arguments that fit the tool's schema."""

from __future__ import annotations

import json
import re
from typing import Any

from devtools.fake_model.faults import RefusedError

_CHUNK = re.compile(r".{1,8}", re.DOTALL)
_SAMPLES: dict[Any, Any] = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}


def call_for(body: dict[str, Any], text: str, number: int) -> dict[str, Any] | None:
    """The call that answers the request: of the tool that it names, or of the first one; None for a reply with text.

    A request that orders a text, or that ends with a tool's output, gets text.
    """
    tools, choice, messages = body.get("tools"), body.get("tool_choice"), body["messages"]
    if not tools or choice == "none" or "!say=" in text or messages[-1].get("role") == "tool":
        return None
    named = choice["function"]["name"] if isinstance(choice, dict) else None
    functions = [tool["function"] for tool in tools if tool.get("type") == "function"]
    found = next((function for function in functions if named in (None, function["name"])), None)
    if found is None:
        raise RefusedError(400, "tool_choice: no such tool", "BadRequestError")
    arguments = json.dumps(_arguments(found.get("parameters") or {}, text))
    function = {"name": found["name"], "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": function}


def deltas(call: dict[str, Any]) -> list[dict[str, Any]]:
    """The call as it is streamed: its name first, then its arguments in parts."""
    function = call["function"]
    begin = {**call, "index": 0, "function": {"name": function["name"], "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in _CHUNK.findall(function["arguments"])]
    return [{"tool_calls": [part]} for part in (begin, *parts)]


def _arguments(schema: dict[str, Any], text: str) -> dict[str, Any]:
    found = {}
    for name, what in schema.get("properties", {}).items():
        kind = what.get("type")
        found[name] = what["enum"][0] if what.get("enum") else text if kind == "string" else _SAMPLES.get(kind)
    return found


def image_count(messages: list[Any]) -> int:
    """The images of the last message."""
    content = messages[-1].get("content") if messages else None
    parts = content if isinstance(content, list) else []
    images = [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]
    if not all(url.startswith(("data:image/", "http")) for url in images):
        raise RefusedError(400, "image_url: not the URL of an image", "BadRequestError")
    return len(images)
