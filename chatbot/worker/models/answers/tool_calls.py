"""Function calls in the answers of chat models.

Sources: "Chat completions" and "Responses" of the OpenAI API reference.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chatbot.worker.models.answers.parts import first_choice
from chatbot.worker.models.answers.reply_text import whole_characters
from chatbot.worker.models.answers.response_events import call_part, is_response, output_items

#: Calls of one reply, and characters of a call's arguments.
_MAX_CALLS, _MAX_ARGUMENTS = 128, 200_000


@dataclass(slots=True)
class _Call:
    """A call as far as it has arrived."""

    #: The id that items show, and the server's: some give two calls the same, some give none.
    id: str = ""
    given: str = ""
    name: str = ""
    arguments: str = ""

    def ends_before(self, given: str, name: str, arguments: str) -> bool:
        """Whether a part under the same index is of another call: not every server counts its calls.

        Some servers repeat the name with each part, others make an id for each part.
        """
        if not (name and self.name) or (given and given == self.given):
            return False
        if given and self.given:
            return not self.arguments or _is_json(self.arguments)
        return _is_json(self.arguments) and (name != self.name or bool(arguments))


class ToolCalls:
    """Collects the calls of one reply: streamed in parts, which name a call by its index, or whole."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        #: The latest call of each index; a part without one counts by its place in the list.
        self._latest: dict[int, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def read(self, document: Mapping[str, Any]) -> bool:
        """Adds what one object of an answer holds; returns whether it held some of a call."""
        held = False
        if is_response(document):
            return self._read_response(document)
        # Ollama's own protocol has no choices.
        choice = first_choice(document) or document
        for name in ("delta", "message"):
            said = choice.get(name)
            if isinstance(said, dict) and ("tool_calls" in said or "function_call" in said):
                for place, part in enumerate(_parts(said)):
                    self._add(part, place, whole=name == "message")
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
                # The last event repeats it.
                self._add({"id": item.get("call_id"), "function": item}, place, whole=True)
                held = True
        return held

    def items(self, *, so_far: bool = False) -> tuple[dict[str, str], ...]:
        """The calls as items of Open Responses; those without a name are left out. Arguments `so_far` may be empty."""
        return tuple(
            {
                "type": "function_call",
                "call_id": call.id,
                "name": call.name,
                "arguments": whole_characters(call.arguments, so_far=so_far) or ("" if so_far else "{}"),
            }
            for call in self._calls
            if call.name
        )

    def _add(self, part: Mapping[str, Any], place: int, *, whole: bool = False) -> None:
        """Adds a part of a call; a `whole` one replaces what was streamed of it."""
        function = part.get("function")
        function = function if isinstance(function, dict) else part
        # Some servers leave special tokens of Harmony behind the name.
        given, name = part.get("id"), _text(function.get("name")).partition("<|")[0]
        given = str(given) if type(given) is int else _text(given)
        arguments = _arguments(function.get("arguments"))
        call = self._call(part.get("index"), place, given, name, arguments)
        if call is None:
            return
        if given and not call.given:
            call.given = given
            call.id = "" if any(other.id == given[:64] for other in self._calls) else given[:64]
        call.name = call.name or name
        if call.name and not call.id:
            call.id = f"call_{uuid.uuid4().hex[:24]}"
        call.arguments = ((arguments or call.arguments) if whole else call.arguments + arguments)[:_MAX_ARGUMENTS]

    def _call(self, index: Any, place: int, given: str, name: str, arguments: str) -> _Call | None:
        """The call that a part belongs to; None where there are too many."""
        counted = str(index).isdecimal()
        key = int(str(index)[:9]) if counted else place
        call = self._latest.get(key)
        if not counted and given:
            call = next((known for known in self._calls if known.given == given), call)
        if call is None or call.ends_before(given, name, arguments):
            if len(self._calls) >= _MAX_CALLS:
                return None
            call = _Call()
            self._calls.append(call)
        self._latest[key] = call
        return call


def _parts(said: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of calls in a message or in a part of one; `function_call` is the older form of a single call."""
    parts: Any = said.get("tool_calls")
    single = said.get("function_call")
    if not parts and isinstance(single, dict):
        parts = [{"function": single}]
    found: Iterable[Any] = parts if isinstance(parts, list) else [parts]
    return (part for part in found if isinstance(part, dict))


def _arguments(value: Any) -> str:
    """Arguments as the text of their JSON; some servers send the object."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else _text(value)


def _is_json(text: str) -> bool:
    if not text.endswith(("}", "]")):
        return False
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
