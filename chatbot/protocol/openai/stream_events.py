"""The numbered events of a response's stream, computed from what is stored: any process can go on with any stream.

An event's `sequence_number` follows from the request's options and from the place of its text in the reply, never from
how the text arrived. A delta has a fixed number of characters, the last one of an item the remaining ones. So any
process sends a client exactly the events after the last one that it has seen.

The items follow each other: what the model thinks, its text, its function calls. An item has ended once the next one or
the response's end is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from chatbot.protocol.openai.response import View, resource, text_content

#: Characters of a delta of the text: about a token. Text beyond the last full delta waits for more text or the end.
DELTA = 4
#: Characters of a delta of reasoning, and of a call's arguments: clients hurry less to show these.
REASONING_DELTA, ARGUMENTS_DELTA = 16, 8

Event = dict[str, Any]
#: The items of which events were sent, in their order, each with the text that was sent.
Sent = Sequence[tuple[tuple[str, ...], str]]


class _Item(NamedTuple):
    """One item of the output, with the events that make it."""

    #: What it is; for a call also its id and its name, which do not change.
    key: tuple[str, ...]
    text: str
    size: int
    #: Whether nothing more comes of it.
    ended: bool
    opening: Sequence[Event]
    delta: Callable[[str], Event]
    #: The events of its end, of which there may be none yet.
    closing: Sequence[Event]

    @property
    def deltas(self) -> int:
        return len(self.text) // self.size + (1 if self.ended and len(self.text) % self.size else 0)

    @property
    def total(self) -> int:
        return len(self.opening) + self.deltas + len(self.closing)

    def event(self, index: int) -> Event:
        index -= len(self.opening)
        if index < 0:
            return self.opening[index]
        if index < self.deltas:
            return self.delta(self.text[index * self.size : (index + 1) * self.size])
        return self.closing[index - self.deltas]


def events(view: View, after: int = -1) -> Iterator[Event]:
    """The known events behind the one with the number `after`. The last one of all says how the response ended."""
    opening = _opening(view)
    for number in range(after + 1, len(opening)):
        yield {**_state(view, opening[number]), "sequence_number": number}
    number = len(opening)
    for item in _items(view):
        for index in range(max(after + 1 - number, 0), item.total):
            yield {**item.event(index), "sequence_number": number + index}
        number += item.total
    if view.ended and after < number:
        # OpenAI defines no event for a cancelled response: it ends as an incomplete one, with the status `cancelled`.
        kind = view.status if view.status in ("completed", "failed") else "incomplete"
        yield {"type": f"response.{kind}", "response": resource(view), "sequence_number": number}


def delivered(view: View, after: int) -> Sent:
    """What the events up to `after` hold."""
    left = after + 1 - len(_opening(view))
    found = []
    for item in _items(view):
        if left <= 0:
            break
        found.append((item.key, item.text[: max(left - len(item.opening), 0) * item.size]))
        left -= item.total
    return found


def continues(view: View, sent: Sent) -> bool:
    """Whether the events of the view are those that were sent, and further ones. While the reply goes on it may lack
    some: Redis was restored without the last of them, and the worker has yet to repeat them."""
    items = _items(view)
    for place, (key, text) in enumerate(sent):
        if place >= len(items):
            return not view.ended
        item = items[place]
        if item.key != key:
            return False
        if not (item.text == text if place + 1 < len(sent) else item.text.startswith(text)):
            return not view.ended and text.startswith(item.text)
    return True


def _opening(view: View) -> list[str]:
    """The states that a response has before its first item."""
    if not view.options.get("background"):
        return ["created", "in_progress"]
    return ["created", "queued", *(["in_progress"] if view.started else [])]


def _state(view: View, kind: str) -> Event:
    then = replace(view, text="", reasoning="", call_text="", reply=None, failure=None, begun=kind == "in_progress")
    return {"type": f"response.{kind}", "response": resource(then)}


def _items(view: View) -> list[_Item]:
    found = [_reasoning(view)] if view.reasoning else []
    found += [_message(view, len(found))] if view.text else []
    first = len(found)
    return found + [_call(view, number, first + number) for number in range(len(view.calls))]


def _reasoning(view: View) -> _Item:
    ended = view.ended or bool(view.text or view.calls)
    item = view.reasoning_item()
    part = {"item_id": item["id"], "output_index": 0, "summary_index": 0}
    empty, (whole,) = {"type": "summary_text", "text": ""}, item["summary"]
    return _Item(
        ("reasoning",),
        view.reasoning,
        REASONING_DELTA,
        ended,
        (
            _added(0, {**item, "status": "in_progress", "summary": []}),
            {"type": "response.reasoning_summary_part.added", **part, "part": empty},
        ),
        lambda text: {"type": "response.reasoning_summary_text.delta", **part, "delta": text},
        (
            {"type": "response.reasoning_summary_text.done", **part, "text": view.reasoning},
            {"type": "response.reasoning_summary_part.done", **part, "part": whole},
            _done(0, item),
        )
        if ended
        else (),
    )


def _message(view: View, place: int) -> _Item:
    ended = view.ended or bool(view.calls)
    item = view.message_item()
    part = {"item_id": item["id"], "output_index": place, "content_index": 0}
    return _Item(
        ("message",),
        view.text,
        DELTA,
        ended,
        (
            _added(place, {**item, "status": "in_progress", "content": []}),
            {"type": "response.content_part.added", **part, "part": text_content("")},
        ),
        lambda text: {"type": "response.output_text.delta", **part, "delta": text, "logprobs": []},
        (
            {"type": "response.output_text.done", **part, "text": view.text, "logprobs": []},
            {"type": "response.content_part.done", **part, "part": text_content(view.text)},
            _done(place, item),
        )
        if ended
        else (),
    )


def _call(view: View, number: int, place: int) -> _Item:
    ended = view.ended or number + 1 < len(view.calls)
    item = view.call_item(number)
    part = {"item_id": item["id"], "output_index": place}
    return _Item(
        ("call", item["call_id"], item["name"]),
        item["arguments"],
        ARGUMENTS_DELTA,
        ended,
        (_added(place, {**item, "arguments": "", "status": "in_progress"}),),
        lambda text: {"type": "response.function_call_arguments.delta", **part, "delta": text},
        (
            {
                "type": "response.function_call_arguments.done",
                **part,
                "name": item["name"],
                "arguments": item["arguments"],
            },
            _done(place, item),
        )
        if ended
        else (),
    )


def _added(place: int, item: Event) -> Event:
    return {"type": "response.output_item.added", "output_index": place, "item": item}


def _done(place: int, item: Event) -> Event:
    return {"type": "response.output_item.done", "output_index": place, "item": item}
