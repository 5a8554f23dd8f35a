"""Objects of the Responses protocol: the events of a stream, and a whole response.

Sources: the OpenAPI document of openresponses.org, and "Responses" of the OpenAI API reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: How the names of its events begin.
EVENT = "response."
_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
#: Events at the end of a part, and the field with all of its text.
_DONE = {"response.output_text.done": "text", "response.refusal.done": "refusal"}
_REASONING = frozenset(
    {"response.reasoning_text.delta", "response.reasoning.delta", "response.reasoning_summary_text.delta"}
)
_FAILED = {"message": "the response failed", "code": "server_error"}
_ENDED = frozenset({"completed", "incomplete", "failed", "cancelled"})


def is_response(document: Mapping[str, Any]) -> bool:
    """Whether the object is an event of a response, or a whole response."""
    kind = document.get("type")
    return (isinstance(kind, str) and kind.startswith(EVENT)) or document.get("object") == "response"


def delta_of(event: Mapping[str, Any]) -> tuple[str, str]:
    """The text and the thinking that an event adds."""
    kind, delta = event.get("type"), event.get("delta")
    if kind == "response.reasoning_summary_part.added" and event.get("summary_index"):
        return "", "\n\n"
    if not isinstance(delta, str):
        return "", ""
    return (delta, "") if kind in _TEXT else ("", delta) if kind in _REASONING else ("", "")


def done_text(event: Mapping[str, Any]) -> str:
    """The text of a part that ends with this event, "" for another event. Some servers send no deltas before it."""
    text = event.get(_DONE.get(str(event.get("type")), ""))
    return text if isinstance(text, str) else ""


def begins_again(document: Mapping[str, Any]) -> bool:
    """Whether the object is the first event of a response."""
    return document.get("type") == "response.created"


def ended_response(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The response that has ended, if the object holds one. Of a failed one all but its error is left out."""
    found = document.get("response") if str(document.get("type")).startswith(EVENT) else document
    if not isinstance(found, dict):
        return None
    if found.get("status") is None and isinstance(found.get("output"), list):
        # Only a whole response has no status.
        return {**found, "status": "completed"}
    if found.get("status") not in _ENDED:
        return None
    if found["status"] == "failed":
        return {"error": found.get("error") or _FAILED}
    return found


def unnamed_end(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a last event without a response stands for, else None."""
    status = str(event.get("type")).removeprefix(EVENT)
    if event.get("response") is not None or status not in (*_ENDED, "error"):
        return None
    return {"error": event.get("error") or _FAILED} if status in ("failed", "error") else {"status": status}


def output_items(document: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The complete items in the object, each with its place in the output."""
    item, place = document.get("item"), document.get("output_index")
    if document.get("type") == "response.output_item.done" and isinstance(item, dict):
        yield place if isinstance(place, int) else 0, item
    ended = ended_response(document) if is_response(document) else None
    output = ended.get("output") if ended else None
    for number, one in enumerate(output if isinstance(output, list) else []):
        if isinstance(one, dict):
            yield number, one


def call_part(event: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]] | None:
    """The part of a function call that an event adds, in the form of chat completions, with its place in the output."""
    place, item, delta = event.get("output_index"), event.get("item"), event.get("delta")
    place = place if isinstance(place, int) else 0
    if event.get("type") == "response.function_call_arguments.delta":
        return place, {"function": {"arguments": delta}}
    begun = item if event.get("type") == "response.output_item.added" and isinstance(item, dict) else {}
    return (place, {"id": begun.get("call_id"), "function": begun}) if begun.get("type") == "function_call" else None


def reasoning_of(item: Mapping[str, Any]) -> str:
    """The thinking in a complete item: in full, else its summary."""
    if item.get("type") != "reasoning":
        return ""
    parts = item.get("content") or item.get("summary")
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return "\n\n".join(text for text in texts if isinstance(text, str))
