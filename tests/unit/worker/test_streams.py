"""The replies in progress of one worker."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from chatbot.errors import StoreUnavailable
from chatbot.protocol import frames
from chatbot.protocol.compact_json import to_json
from chatbot.protocol.openai.calls import decode_calls
from chatbot.sessions.leases import RENEW, Assignment, Leases
from chatbot.worker.models.call import Call
from chatbot.worker.models.event_loop import ModelLoop, outside
from chatbot.worker.open_streams import OpenStreams
from chatbot.worker.report_pace import LONGEST_INTERVAL, REPORT_INTERVAL
from chatbot.worker.stream import Stream
from devtools.harness.deployment import eventually


class _NoRedis:
    def progress(self, reports: list[Any]) -> list[str]:
        return ["on"] * len(reports)


def with_message(request_id: str = "m1") -> Assignment:
    return Assignment("a-session", "1", request_id, 0, 0.0, False, ({"id": "m1", "msg": "hello"},))


def claimed(fence: int) -> Assignment:
    return replace(with_message(), fence=str(fence))


def unreported(work: Assignment) -> Stream:
    """A stream of which only the test reports."""
    return Stream(work, Call(30), threading.Lock(), lambda _: None)


def test_a_later_claim_of_a_session_cancels_the_earlier_call() -> None:
    streams, earlier, later = OpenStreams(cast(Leases, _NoRedis())), Call(30), Call(30)
    first = streams.open(claimed(9), earlier)
    second = streams.open(claimed(10), later)
    assert (earlier.cancelled, later.cancelled) == ("lease", None)
    assert first.lost
    streams.close(first)
    assert len(streams) == 1
    streams.close(second)
    assert len(streams) == 0


def test_an_earlier_claim_that_opens_late_is_cancelled_itself() -> None:
    streams, earlier, later = OpenStreams(cast(Leases, _NoRedis())), Call(30), Call(30)
    streams.open(claimed(10), later)
    streams.open(claimed(9), earlier)
    assert (earlier.cancelled, later.cancelled) == ("lease", None)
    streams.stop("a-session", "another")
    assert later.cancelled is None
    streams.stop("a-session", with_message().message_id)
    assert later.cancelled == "stop"


def test_a_lease_is_renewed_after_its_time_not_with_each_report() -> None:
    stream = unreported(with_message())
    stream.add("a")
    assert not stream.report().renew
    stream.last_renewal -= RENEW / 1000
    assert stream.renewal_due(time.monotonic())
    stream.add("b")
    assert [stream.report().renew, stream.report().renew] == [True, False]


@pytest.mark.parametrize("request_id", ["m1", "again"])
def test_the_frames_of_a_growing_text_are_those_of_the_protocol(request_id: str) -> None:
    work = with_message(request_id)
    stream = unreported(work)
    stream.add('a "', "thought")
    stream.report()
    stream.add('\n0,"msg":""é😀', "\\")
    report = stream.report()
    about = work.reply_id, work.reply_to
    assert report.frame == to_json(frames.delta(*about, 3, '\n0,"msg":""é😀', work.regeneration))
    assert report.reasoning_frame == to_json(frames.reasoning(*about, 7, "\\", work.regeneration))


class _SlowRedis:
    def __init__(self) -> None:
        self.delay = 0.05

    def progress(self, reports: list[Any]) -> list[str]:
        time.sleep(self.delay)
        return ["on"] * len(reports)


def test_chunks_are_gathered_for_longer_while_reports_come_late() -> None:
    slow = _SlowRedis()
    streams = OpenStreams(cast(Leases, slow))
    stream = streams.open(with_message(), Call(60))

    def grows(until: float) -> bool:
        stream.add("more")
        return streams.pace.interval == until

    eventually(lambda: grows(LONGEST_INTERVAL), what="the longest interval")
    slow.delay = 0
    eventually(lambda: grows(REPORT_INTERVAL), what="the usual interval")
    streams.close(stream)


class _CountingRedis:
    def __init__(self) -> None:
        self.reported: list[str] = []

    def progress(self, reports: list[Any]) -> list[str]:
        self.reported += [report.text for report in reports]
        return ["on"] * len(reports)


def test_calls_whose_arguments_come_by_turns_are_published_one_after_the_other() -> None:
    """As parts of several calls, each with its index, which OpenAI's interface allows."""
    message = {"id": "m1", "msg": "hello", "options": {"stream": "events"}}
    stream = unreported(replace(with_message(), messages=(message,)))
    parts = [(0, "{"), (1, '{"at"'), (0, '"at":1}'), (2, ""), (1, ":2}")]
    calls = [{"call_id": f"c{number}", "name": "look", "arguments": ""} for number in range(3)]
    published, begun = [""], 0
    for number, part in parts:
        calls[number]["arguments"] += part
        begun = max(begun, number)
        stream.add_calls(calls[: begun + 1], last=False)
        assert stream.call_text.startswith(published[-1])
        published.append(stream.call_text)
    assert [len(decode_calls(text)) for text in published[1:]] == [1, 1, 2, 2, 3]
    calls[2]["arguments"] = "{}"
    stream.add_calls(calls, last=True)
    assert [call["arguments"] for call in decode_calls(stream.call_text)] == ['{"at":1}', '{"at":2}', "{}"]


@pytest.mark.parametrize("waits", [False, True])
def test_the_first_text_is_reported_unless_the_reply_ends_with_what_was_read(waits: bool) -> None:
    counting, loop = _CountingRedis(), ModelLoop(1)
    streams, call = OpenStreams(cast(Leases, counting)), Call(30)
    call.loop = loop
    stream = streams.open(with_message(), call)

    def reply() -> None:
        stream.add("te")
        stream.add("xt")
        if waits:
            loop.outside(lambda: eventually(lambda: counting.reported == ["text"], what="the report"))
        stream.ended = True

    loop.run(reply)
    loop.run(lambda: None)
    streams.close(stream)
    assert counting.reported == (["text"] if waits else [])


class _HeldRedis:
    """Answers a report once `release` is set; in a model loop other replies run meanwhile."""

    def __init__(self) -> None:
        self.reported: list[str] = []
        self.threads: set[str] = set()
        self.begun, self.release = threading.Event(), threading.Event()
        self.fails = False

    def progress(self, reports: list[Any]) -> list[str]:
        self.reported += [report.text for report in reports]
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        outside(self.release.wait)
        if self.fails:
            self.fails = False
            raise StoreUnavailable("away")
        return ["on"] * len(reports)


@pytest.mark.parametrize("closes_in_loop", [False, True])
def test_the_loop_reports_what_it_reads_and_a_reply_ends_after_its_report(closes_in_loop: bool) -> None:
    held, loop, call = _HeldRedis(), ModelLoop(2), Call(30)
    streams = OpenStreams(cast(Leases, held), in_loop=True)
    call.loop = loop
    closing, closed = threading.Event(), threading.Event()
    stream = streams.open(with_message(), call)
    # The thread has looked once, and sleeps.
    eventually(lambda: streams._next_check > time.monotonic() + 0.2)
    loop.run(lambda: stream.add("text"))
    assert held.begun.wait(30)

    def close() -> None:
        closing.set()
        streams.close(stream)
        closed.set()

    if closes_in_loop:
        loop.start(close)
    else:
        threading.Thread(target=close).start()
    assert closing.wait(30)
    # The loop has run what the reply does until it waits.
    loop.run(lambda: None)
    assert not closed.is_set()
    held.release.set()
    assert closed.wait(30)
    assert (held.reported, held.threads) == (["text"], {"model-streams"})


def test_the_first_text_of_a_reply_does_not_wait_for_the_report_of_another() -> None:
    held, loop = _HeldRedis(), ModelLoop(2)
    streams = OpenStreams(cast(Leases, held), in_loop=True)
    opened = []
    for session in ("one", "two"):
        call = Call(30)
        call.loop = loop
        opened.append(streams.open(replace(with_message(), session=session), call))
        loop.run(partial(opened[-1].add, session))
        eventually(lambda: held.reported[-1] == opened[-1].assignment.session, what="the report")
    held.release.set()
    for stream in opened:
        streams.close(stream)
    assert held.reported == ["one", "two"]


@pytest.mark.parametrize("fails", [False, True])
def test_text_that_comes_during_a_report_of_the_loop_is_reported_behind_it(fails: bool) -> None:
    held, loop, call = _HeldRedis(), ModelLoop(2), Call(30)
    streams = OpenStreams(cast(Leases, held), in_loop=True)
    call.loop, held.fails = loop, fails
    stream = streams.open(with_message(), call)
    loop.run(lambda: stream.add("one "))
    assert held.begun.wait(30)
    loop.run(lambda: stream.add("two"))
    held.release.set()
    # After a failure Redis may have the text or not.
    expected = ["one ", "one two" if fails else "two"]
    eventually(lambda: held.reported == expected, what="both reports")
    streams.close(stream)


def test_the_deadline_of_a_reply_that_begins_after_an_idle_time_counts() -> None:
    streams, call = OpenStreams(cast(Leases, _NoRedis())), Call(0.01)
    streams.close(streams.open(with_message(), Call(30)))
    # Without replies nothing is checked.
    eventually(lambda: streams._next_check > time.monotonic() + 60)
    streams.open(with_message(), call)
    eventually(lambda: call.cancelled == "deadline")
