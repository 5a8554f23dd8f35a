"""What the Python client knows of its session, from frames alone."""

from __future__ import annotations

from typing import Any

from chatbot_client.errors import Refused, ReplyFailed
from chatbot_client.state import Request, State

SESSION: dict[str, Any] = {"type": "session", "recovered": None, "pending": [], "leaf": None}


def request(state: State, id: str = "m1", kind: str = "message", original: dict[str, Any] | None = None) -> Request:
    made = Request(id, {"type": kind, "id": id}, original)
    state.add(made)
    return made


def delta(offset: int, msg: str, **fields: str) -> dict[str, Any]:
    return {"type": "delta", "id": "r1", "reply_to": "m1", "offset": offset, "msg": msg, **fields}


def reply(msg: str, **fields: str) -> dict[str, Any]:
    fields = {"id": "r1", "reply_to": "m1", **fields}
    return {"type": "message", "source": "bot", "msg": msg, "timestamp": "t", "finish_reason": "stop", **fields}


def error(code: str, id: str | None = "m1", **fields: Any) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": "text", "id": id, **fields}


def changes(made: Request) -> list[tuple[int, str, bool]]:
    return [(d.offset, d.text, d.replaces) for d in made.deltas]


def test_deltas_are_applied_and_repeated_text_is_no_change() -> None:
    state = State()
    made = request(state)
    for frame in (delta(0, "The"), delta(3, " cat"), delta(0, "The cat sat"), delta(0, "The cat sat"), delta(11, ".")):
        state.apply(frame)
    assert changes(made) == [(0, "The", False), (3, " cat", False), (7, " sat", False), (11, ".", False)]
    state.apply(reply("The cat sat."))
    assert made.message is not None
    assert (made.text, made.message.text, state.open, state.after) == ("The cat sat.", "The cat sat.", {}, "r1")


def test_a_reply_that_is_generated_again_replaces_what_differs() -> None:
    state = State()
    made = request(state)
    for frame in (delta(0, "The cat sat"), delta(0, "The d"), delta(5, "og"), reply("The dog!")):
        state.apply(frame)
    assert changes(made) == [(0, "The cat sat", False), (4, "d", True), (5, "og", False), (7, "!", False)]
    text = ""
    for change in made.deltas:
        text = text[: change.offset] + str(change)
    assert text == "The dog!"


def test_a_reply_that_is_cut_back_is_a_change_without_text() -> None:
    state = State()
    made = request(state)
    for frame in (delta(0, "The cat"), reply("The")):
        state.apply(frame)
    assert changes(made) == [(0, "The cat", False), (3, "", True)]


def test_regenerations_differ_from_their_message() -> None:
    state = State()
    first, other = request(state), request(state, "g1", "regenerate")
    state.apply(delta(0, "other", request="g1"))
    state.apply(delta(0, "first"))
    state.apply(reply("other", id="r2", request="g1"))
    assert (first.text, other.text, first.done, other.done) == ("first", "other", False, True)


def test_thinking_is_collected_beside_the_text() -> None:
    state = State()
    made = request(state)
    state.apply({**delta(0, "h"), "type": "reasoning"})
    state.apply({**delta(1, "m"), "type": "reasoning"})
    assert (made.reasoning, made.text, made.deltas) == ("hm", "", [])


def test_a_new_connection_sends_again_what_may_not_have_arrived() -> None:
    state = State()
    unsent, waiting, missed = request(state), request(state, "m2"), request(state, "m3")
    for id in ("m2", "m3"):
        state.apply({"type": "ack", "id": id})
    assert state.apply({**SESSION, "pending": ["m2"], "recovered": True}) == [unsent.frame]
    # Without a replay the reply to m3 comes for the repeated message.
    for recovered in (False, None):
        assert state.apply({**SESSION, "pending": ["m2"], "recovered": recovered}) == [unsent.frame, missed.frame]
    state.apply({**SESSION, "pending": ["m1", "m2", "m3"]})
    assert unsent.acknowledged
    assert waiting.acknowledged


def test_the_own_message_on_a_stream_is_an_acknowledgement() -> None:
    state = State()
    made = request(state)
    state.apply({"type": "message", "id": "m1", "source": "human", "msg": "q", "timestamp": "t"})
    assert made.acknowledged
    assert state.after == "m1"


def test_a_retry_outlives_the_failure_that_it_retries_and_is_replaced_by_the_message_once_it_is_stored() -> None:
    state = State()
    made = request(state, "m1", "retry", {"type": "message", "id": "m1"})
    state.apply(error("model_error"))
    assert state.apply(SESSION) == [made.frame]
    state.apply({"type": "ack", "id": "m1"})
    assert state.apply(SESSION) == [{"type": "message", "id": "m1"}]
    state.apply(error("model_error"))
    assert isinstance(made.error, ReplyFailed)


def test_refusals_end_a_request_and_what_can_be_sent_again_does_not() -> None:
    state = State()
    refused = request(state)
    state.apply(error("unavailable", retry_after=2))
    state.apply(error("nothing_to_stop", None))
    assert not refused.done
    state.apply(error("rate_limited", retry_after=3))
    assert isinstance(refused.error, Refused)
    assert (refused.error.code, refused.error.retry_after, str(refused.error)) == (
        "rate_limited",
        3,
        "rate_limited: text",
    )
    stored = request(state)
    state.apply({"type": "ack", "id": "m1"})
    state.apply(error("not_retryable"))
    assert not stored.done


def test_what_is_unknown_is_passed_over() -> None:
    state = State()
    made = request(state)
    for frame in (
        {"type": "novelty"},
        delta(0, "x", reply_to="m9"),
        {"type": "ack", "id": "m9"},
        reply("x", reply_to="m9"),
    ):
        assert state.apply(frame) == []
    assert not made.done
    state.apply({"type": "status", "id": "m1", "state": "loading", "retry_in": 2})
    assert made.state == "loading"
