"""Function calls in the answers of chat models.

Sources: "Chat completions" and "Responses" of the OpenAI API reference.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from chatbot.worker.models.answers.parts import first_choice
from chatbot.worker.models.answers.reply_text import whole_characters
from chatbot.worker.models.answers.response_events import call_part, is_response, output_items

#: Calls of one reply, and characters of a call's arguments.
_MAX_CALLS, _MAX_ARGUMENTS = 128, 200_000


class ToolCalls:
    """Collects the calls of one reply: streamed in parts, which name a call by its index, or whole."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def read(self, document: Mapping[str, Any]) -> bool:
        """Adds what one object of an answer holds; returns whether it held some of a call."""
        held = False
        if is_response(document):
            return self._read_response(document)
        choice = first_choice(document) or {}
        for name in ("delta", "message"):
            said = choice.get(name)
            parts = said.get("tool_calls") if isinstance(said, dict) else None
            if isinstance(parts, list):
                for place, part in enumerate(parts):
                    if isinstance(part, dict):
                        self._add(part, place)
                        held = True
        return held

    def _read_response(self, document: Mapping[str, Any]) -> bool:
        """The same for an event of a response, or a whole response."""
        held = False
        if (begun := call_part(document)) is not None:
            place, part = begun
            self._add(part, place)
            held = True
        for place, item in output_items(document):
            if item.get("type") == "function_call":
                # Complete; the last event repeats it.
                if place in self._calls:
                    self._calls[place]["arguments"] = ""
                self._add({"id": item.get("call_id"), "function": item}, place)
                held = True
        return held

    def items(self, *, so_far: bool = False) -> tuple[dict[str, str], ...]:
        """The calls as items of Open Responses; those without a name are left out. Arguments `so_far` may be empty."""
        named = [call for _, call in sorted(self._calls.items()) if call["name"]]
        for call in named:
            # Some servers send no id.
            call["id"] = call["id"][:64] or f"call_{uuid.uuid4().hex[:24]}"
        return tuple(
            {
                "type": "function_call",
                "call_id": call["id"],
                "name": call["name"],
                "arguments": whole_characters(call["arguments"], so_far=so_far) or ("" if so_far else "{}"),
            }
            for call in named
        )

    def _add(self, part: Mapping[str, Any], place: int) -> None:
        index, function = part.get("index"), part.get("function")
        index = index if isinstance(index, int) else place
        if index not in self._calls and len(self._calls) >= _MAX_CALLS:
            return
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or _text(part.get("id"))
        if isinstance(function, dict):
            call["name"] = call["name"] or _text(function.get("name"))
            call["arguments"] = (call["arguments"] + _text(function.get("arguments")))[:_MAX_ARGUMENTS]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
