"""The events of a response's stream: the same numbers for the same texts, however the text arrived."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatbot.protocol.openai.calls import encode_calls, ended_calls
from chatbot.protocol.openai.history import items_of
from chatbot.protocol.openai.response import CANCELLED, View, resource
from chatbot.protocol.openai.stream_events import continues, delivered, events

CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at":"x"}'}
DELTAS = ("reasoning_summary_text", "output_text", "function_call_arguments")
TIME = "2026-11-27T10:00:00.000000Z"
BEGUN = View("resp_1", None, {"timestamp": TIME}, "r1", options={"model": "m"})


def ended(text: str, *calls: Any, reason: str = "stop", **options: Any) -> View:
    reply = {"msg": text, "timestamp": TIME, "finish_reason": reason, "items": list(calls)}
    return replace(BEGUN, text=text, reply=reply, options={**BEGUN.options, **options})


def moments(view: View) -> Iterator[View]:
    """The views of a reply as it grows by one character, in the order in which a worker publishes its items."""
    growing = replace(view, reasoning="", text="", reply=None, begun=True)
    parts: dict[str, Any] = {"reasoning": view.reasoning, "text": view.text, "call_text": encode_calls(view.calls)}
    for part, whole in parts.items():
        for size in range(1, len(whole) + 1):
            change: dict[str, Any] = {part: whole[:size]}
            growing = replace(growing, **change)
            yield growing


@given(
    *(st.text(max_size=40) for _ in range(2)),
    st.lists(st.sampled_from([CALL, {**CALL, "call_id": "d", "arguments": '{"at":"somewhere else"}'}]), max_size=2),
    st.lists(st.integers(0, 20), max_size=8),
    st.booleans(),
)
def test_a_stream_resumed_anywhere_is_the_stream(
    thought: str, text: str, calls: list[dict[str, Any]], steps: list[int], background: bool
) -> None:
    last = replace(ended(text, *calls, background=background), reasoning=thought)
    whole = list(events(last))
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    seen: list[dict[str, Any]] = []
    left = moments(last)
    for step in steps:
        part = next(itertools.islice(left, step, None), None)
        if part is None:
            break
        assert continues(part, delivered(last, len(seen) - 1))
        seen += events(part, len(seen) - 1)
        assert delivered(part, len(seen) - 1) == delivered(last, len(seen) - 1)
    seen += events(last, len(seen) - 1)
    assert seen == whole
    deltas = {kind: "".join(e["delta"] for e in whole if e["type"] == f"response.{kind}.delta") for kind in DELTAS}
    assert list(deltas.values()) == [thought, text, "".join(call["arguments"] for call in calls)]


def test_other_text_than_was_sent_is_noticed() -> None:
    view = replace(BEGUN, reasoning="hmm" * 9, text="some text", begun=True)
    sent = delivered(view, max(event["sequence_number"] for event in events(view)))
    assert [text for _, text in sent] == ["hmm" * 9, "some tex"]
    assert continues(replace(view, text="some text and more"), sent)
    assert not continues(replace(view, text="other text"), sent)
    assert not continues(replace(view, reasoning="hmm" * 10), sent)
    # Redis was restored without the last report.
    assert continues(replace(view, text="some"), sent)
    assert not continues(ended("some"), sent)
    calling = replace(BEGUN, call_text=encode_calls([CALL]), begun=True)
    called = delivered(calling, 3)
    assert continues(ended("", CALL), called)
    assert not continues(ended("", {**CALL, "name": "other"}), called)


def test_a_call_that_was_cut_off_is_incomplete_and_in_no_prompt() -> None:
    cut = ended_calls(encode_calls([CALL, {**CALL, "arguments": '{"at":'}]), whole=False)
    view = ended("", *cut, reason="interrupted")
    assert [item["status"] for item in resource(view)["output"]] == ["completed", "incomplete"]
    assert view.conversation() == [CALL] == items_of({"source": "bot", "msg": "", "items": cut})


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
