"""Items of the conversation that a session stores: of each request its items, of each reply its text and its calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chatbot.protocol.openai.items import Item, message, text_part


def items_of(stored: Mapping[str, Any]) -> list[Item]:
    """The items of one stored message, in order; none of one that was deleted."""
    if stored.get("deleted"):
        return []
    if stored["source"] == "human":
        found: list[Item] = stored.get("items") or [message("user", [text_part("user", stored["msg"])])]
        return found
    said = [message("assistant", [text_part("assistant", stored["msg"])])] if stored["msg"] else []
    # What a call that was cut off lacks would fail each further request.
    return [*said, *(item for item in stored.get("items", ()) if item.get("status") != "incomplete")]


def items_of_all(messages: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The items of several messages."""
    return [item for stored in messages for item in items_of(stored)]


def listed(messages: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The same with ids and states, as lists of items show them."""
    return [_with_id(item, stored["id"], number) for stored in messages for number, item in enumerate(items_of(stored))]


def _with_id(item: Item, message_id: str, number: int) -> Item:
    kind = {"message": "msg", "function_call": "fc"}.get(item["type"], "fco")
    shown = {**item, "id": f"{kind}_{message_id}_{number}", "status": "completed"}
    if item.get("role") == "assistant":
        shown["content"] = [{**part, "annotations": [], "logprobs": []} for part in item["content"]]
    return shown
