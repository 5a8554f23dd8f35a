"""What a polling client has: named in the answer's `after`, and found again in the next snapshot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chatbot.protocol import frames
from chatbot.sessions.snapshots import Snapshot
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.transports.long_poll import Cursor, _Progress

EMPTY = Snapshot("Ada", "", 60.0, 2, True, [], ["m1"], "", "", {}, 7, "m1", 0, {})


def cursor_of(snapshot: Snapshot, *applied: dict[str, Any]) -> Cursor:
    """The cursor of a client that has a snapshot and later frames, after its way through a URL."""
    progress = _Progress(snapshot)
    for frame in applied:
        progress.apply(frame)
    found = Cursor.parse(str(progress.cursor(Subscriber("s", lambda _: None, lambda _: None))))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "after", [None, "", "m1", "75f1250ca3059b637f680fd0dbab47d8", "1.2.3.4.d202ef8d", "x.2.3.4.d202ef8d.m"]
)
def test_the_id_of_a_message_is_no_place(after: str | None) -> None:
    assert Cursor.parse(after) is None


def test_of_a_reply_that_went_on_only_the_rest_is_sent() -> None:
    cursor = cursor_of(EMPTY, frames.reasoning("r", "m1", 0, "hm"), frames.delta("r", "m1", 0, "Grüße 🙂"))
    assert cursor.held(replace(EMPTY, reasoning="hm", partial="Grüße 🙂 an alle")) == (2, 7)


def test_of_a_reply_that_began_again_everything_is_sent() -> None:
    cursor = cursor_of(EMPTY, frames.delta("r", "m1", 0, "Good morning"))
    assert cursor.held(replace(EMPTY, partial="Good evening, Ada")) == (0, 0)
    assert cursor.held(replace(EMPTY, partial="")) == (0, 0)
    assert cursor.held(replace(EMPTY, reasoning="hm", partial="Good morning")) == (0, 0)


def test_a_complete_reply_leaves_nothing_in_progress() -> None:
    whole = {"type": "message", "id": "r", "source": "bot", "msg": "Hi", "reply_to": "m1", "request": "q1"}
    cursor = cursor_of(replace(EMPTY, partial="H"), frames.request("q1", "m1"), whole)
    assert cursor.text == 0


def test_what_an_older_version_names_is_understood() -> None:
    assert Cursor.parse("2.7.0.0.00000000.m1") == Cursor(2, 7, 0, 0, "00000000")


def test_what_redis_has_lost_or_too_much_of_is_no_continuation() -> None:
    cursor = Cursor(2, 7, 0, 0, "")
    assert cursor.is_before(EMPTY)
    assert not cursor.is_before(replace(EMPTY, event=6))
    assert not cursor.is_before(replace(EMPTY, length=1))
    assert not cursor.is_before(replace(EMPTY, recovered=False))
