"""The events of a response's stream: the same numbers for the same texts, however the text arrived."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatbot.protocol.openai.response import CANCELLED, View, resource
from chatbot.protocol.openai.stream_events import delivered, events

CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at":"x"}'}
TIME = "2026-11-27T10:00:00.000000Z"
BEGUN = View("resp_1", None, {"timestamp": TIME}, "r1", options={"model": "m"})


def ended(text: str, *calls: Any, reason: str = "stop", **options: Any) -> View:
    reply = {"msg": text, "timestamp": TIME, "finish_reason": reason, "items": list(calls)}
    return replace(BEGUN, text=text, reply=reply, options={**BEGUN.options, **options})


@given(st.text(min_size=1, max_size=60), st.lists(st.integers(1, 20), max_size=8), st.booleans(), st.booleans())
def test_a_stream_resumed_anywhere_is_the_stream(text: str, sizes: list[int], called: bool, background: bool) -> None:
    last = ended(text, *([CALL] if called else []), background=background)
    whole = list(events(last))
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    seen: list[dict[str, Any]] = []
    size = 0
    for step in sizes:
        size += step
        part = replace(last, text=text[:size], reply=None, begun=True)
        seen += events(part, len(seen) - 1)
        assert text.startswith(delivered(part, len(seen) - 1))
    seen += events(last, len(seen) - 1)
    assert seen == whole
    assert "".join(event.get("delta", "") for event in whole if "text.delta" in event["type"]) == text


def test_the_last_event_says_how_the_response_ended() -> None:
    for view, kind, status in (
        (ended("x"), "response.completed", "completed"),
        (ended("x", reason="length"), "response.incomplete", "incomplete"),
        (ended("x", reason="stopped"), "response.incomplete", "cancelled"),
        (ended("x", reason="interrupted"), "response.failed", "failed"),
        (replace(BEGUN, failure="No model"), "response.failed", "failed"),
        (replace(BEGUN, failure=CANCELLED), "response.incomplete", "cancelled"),
    ):
        last = list(events(view))[-1]
        assert (last["type"], last["response"]["status"]) == (kind, status)
    assert resource(ended("x", reason="length"))["incomplete_details"] == {"reason": "max_output_tokens"}
    assert resource(replace(BEGUN, failure="No model"))["error"] == {"code": "server_error", "message": "No model"}


def test_a_response_in_the_background_waits_in_the_queue_until_a_worker_begins() -> None:
    queued = replace(BEGUN, options={"background": True})
    assert [event["type"] for event in events(queued)] == ["response.created", "response.queued"]
    assert resource(queued)["status"] == "queued"
    assert [event["type"] for event in events(replace(queued, begun=True), 1)] == ["response.in_progress"]


def test_function_calls_follow_the_text_as_items_of_their_own() -> None:
    view = ended("let me look", CALL, {**CALL, "call_id": "d"})
    output = resource(view)["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
    added = [event for event in events(view) if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == [0, 1, 2]
    assert added[1]["item"]["arguments"] == ""


def test_the_tokens_are_shown_when_they_are_known() -> None:
    view = ended("x")
    assert resource(view)["usage"] is None
    counted = {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 2}
    usage = resource(replace(view, reply={**(view.reply or {}), "usage": counted}))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (3, 2, 5)
