"""Conversations of OpenAI's interfaces: of stored messages that hold items, as a model gets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from chatbot.protocol.openai.history import items_of
from chatbot.protocol.openai.items import Item, text_of
from chatbot.worker.prompts import PromptMessage

_ROLES: dict[str, Any] = {"user": "user", "assistant": "assistant", "system": "system"}


def requested_conversation(messages: Sequence[Mapping[str, Any]]) -> list[PromptMessage]:
    """The messages of a conversation, the instructions of its last request first."""
    instructions = messages[-1].get("options", {}).get("instructions")
    found = [PromptMessage("system", instructions)] if instructions else []
    items = [item for message in messages for item in items_of(message)]
    for is_call, group in groupby(items, lambda item: item["type"] == "function_call"):
        if not is_call:
            found += [_message(item) for item in group]
            continue
        calls = tuple(_call(item) for item in group)
        if found and found[-1].role == "assistant" and not found[-1].calls:
            found[-1] = PromptMessage("assistant", found[-1].text, calls=calls)
        else:
            found.append(PromptMessage("assistant", "", calls=calls))
    return list(_one_system(found))


def newest(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The newer half of the stored messages, from a human one on; the last one alone when it is the only one."""
    half = messages[(len(messages) + 1) // 2 :] or messages[-1:]
    while len(half) > 1 and half[0]["source"] != "human":
        half = half[1:]
    return half


def _one_system(messages: Sequence[PromptMessage]) -> Iterator[PromptMessage]:
    """The messages, with those of the system at the beginning as one: chat templates take one, at the beginning."""
    count = 0
    while count < len(messages) and messages[count].role == "system":
        count += 1
    if count:
        yield PromptMessage("system", "\n\n".join(message.text for message in messages[:count]))
    yield from messages[count:]


def _message(item: Item) -> PromptMessage:
    if item["type"] == "function_call_output":
        return PromptMessage("tool", text_of(item["output"]), call_id=item["call_id"])
    content = item["content"]
    images = any(part["type"] == "input_image" for part in content)
    parts = tuple(_part(part) for part in content) if images else ()
    return PromptMessage(_ROLES[item["role"]], text_of(content), parts=parts)


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part in the form of chat completions."""
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    return {"type": "text", "text": part["text"]}


def _call(item: Item) -> dict[str, Any]:
    """A call in the form of chat completions."""
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}
