"""The replies in progress of one worker."""

from __future__ import annotations

from typing import Any, cast

from chatbot.sessions.leases import Assignment, Leases
from chatbot.worker.models.base import Call
from chatbot.worker.streams import Streams


class _NoRedis:
    def progress(self, reports: list[Any]) -> list[str]:
        return ["on"] * len(reports)


def claimed(fence: int) -> Assignment:
    return Assignment("a-session", str(fence), "m1", 0, 0.0, False, ())


def test_a_later_claim_of_a_session_cancels_the_earlier_call() -> None:
    streams, earlier, later = Streams(cast(Leases, _NoRedis())), Call(30), Call(30)
    first = streams.open(claimed(9), earlier)
    second = streams.open(claimed(10), later)
    assert (earlier.cancelled, later.cancelled) == ("lease", None)
    assert first.lost
    streams.close(first)
    assert len(streams) == 1
    streams.close(second)
    assert len(streams) == 0


def test_an_earlier_claim_that_opens_late_is_cancelled_itself() -> None:
    streams, earlier, later = Streams(cast(Leases, _NoRedis())), Call(30), Call(30)
    streams.open(claimed(10), later)
    streams.open(claimed(9), earlier)
    assert (earlier.cancelled, later.cancelled) == ("lease", None)
    streams.stop("a-session")
    assert later.cancelled == "stop"
