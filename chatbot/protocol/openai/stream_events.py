"""The numbered events of a response's stream, computed from what is stored: any process can go on with any stream.

An event's `sequence_number` follows from the request's options and from the place of its text in the reply, never from
how the text arrived: a delta is always `DELTA` characters, the last one what is left. So a client that has seen the
events up to a number gets exactly those behind it from whichever process it asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from chatbot.protocol.openai.response import View, resource, text_content

#: Characters of a delta: about a token. Text beyond the last full delta waits for more text or the end.
DELTA = 4

Event = dict[str, Any]


def events(view: View, after: int = -1) -> Iterator[Event]:
    """The known events behind the one with the number `after`. The last one of all says how the response ended."""
    opening = _opening(view)
    for number in range(after + 1, len(opening)):
        yield {**_state(view, opening[number]), "sequence_number": number}
    number = len(opening)
    if view.text:
        if after < number + 1:
            yield from _numbered(_message_begins(view), number, after)
        number += 2
        count = len(view.text) // DELTA + (1 if view.ended and len(view.text) % DELTA else 0)
        for index in range(max(after + 1 - number, 0), count):
            delta = view.text[index * DELTA : (index + 1) * DELTA]
            yield {**_delta(view, delta), "sequence_number": number + index}
        number += count
    if view.ended:
        yield from _numbered(_ending(view), number, after)


def delivered(view: View, after: int) -> str:
    """The text that the events up to `after` hold."""
    return view.text[: max(after - 1 - len(_opening(view)), 0) * DELTA]


def _numbered(found: Iterator[Event], number: int, after: int) -> Iterator[Event]:
    for place, event in enumerate(found, number):
        if place > after:
            yield {**event, "sequence_number": place}


def _opening(view: View) -> list[str]:
    """The states that a response has before its first text."""
    if not view.options.get("background"):
        return ["created", "in_progress"]
    begun = view.begun or view.text or view.ended
    return ["created", "queued", *(["in_progress"] if begun else [])]


def _state(view: View, kind: str) -> Event:
    then = replace(view, text="", reply=None, failure=None, begun=kind == "in_progress")
    return {"type": f"response.{kind}", "response": resource(then)}


def _message_begins(view: View) -> Iterator[Event]:
    item = {**view.message_item(), "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.content_part.added", **_part(view), "part": text_content("")}


def _delta(view: View, text: str) -> Event:
    return {"type": "response.output_text.delta", **_part(view), "delta": text, "logprobs": []}


def _ending(view: View) -> Iterator[Event]:
    if view.text:
        yield {"type": "response.output_text.done", **_part(view), "text": view.text, "logprobs": []}
        yield {"type": "response.content_part.done", **_part(view), "part": text_content(view.text)}
        yield {"type": "response.output_item.done", "output_index": 0, "item": view.message_item()}
    first = int(bool(view.text))
    for number in range(len(view.calls)):
        item = view.call_item(number)
        place = {"item_id": item["id"], "output_index": first + number}
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": first + number, "item": begun}
        yield {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]}
        yield {"type": "response.output_item.done", "output_index": first + number, "item": item}
    # There is no event for a cancelled response: it counts as an incomplete one whose status says more.
    kind = view.status if view.status in ("completed", "failed") else "incomplete"
    yield {"type": f"response.{kind}", "response": resource(view)}


def _part(view: View) -> Event:
    return {"item_id": f"msg_{view.reply_id}", "output_index": 0, "content_index": 0}
