"""How replies are generated and settled, with a model that does what a test prescribes, against a real Redis."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis

from chatbot.config import ModelAddress, ModelSettings, Settings
from chatbot.protocol.events import Event
from chatbot.sessions.leases import Leases
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import events_channel, session_keys
from chatbot.telemetry.counters import MODEL_ERRORS, REPLIES, TOKENS, Counts, sums
from chatbot.web.fanout.hub import replay
from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import CannotContinue
from chatbot.worker.models.errors import ContentRefused, ModelError, NotSupported, PromptTooLong, TransientModelError
from chatbot.worker.open_streams import OpenStreams
from chatbot.worker.prompts import PromptMessage, estimated_tokens
from chatbot.worker.replies import Replies
from chatbot.worker.stream import MAX_REASONING_LENGTH, REASONING_CUT, THINKS_AGAIN
from devtools.harness.deployment import eventually
from devtools.harness.histories import stored_messages
from tests.support.subscription import Subscription

REFUSED = ContentRefused("content_filter", "400: refused")
TOO_LONG = PromptTooLong("too_long", "400: too long")


class Script(Model):
    """A model: for each call a step, which is a list of pieces, an error to raise, or a function that gives pieces."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.prompts: list[list[str]] = []

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        self.prompts.append([message.text for message in conversation])
        step = self.steps.pop(0)
        for piece in step(call) if callable(step) else [step] if isinstance(step, Exception) else step:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def said(text: str) -> list[Piece]:
    return [Piece(text), Piece("", "stop")]


class Talk:
    """One session and a worker."""

    def __init__(self, client: redis.Redis, sessions: Sessions, leases: Leases, session: str) -> None:
        self.client, self.sessions, self.leases, self.session = client, sessions, leases, session
        self.count = 0
        self.settings: dict[str, Any] = {}
        self.counts = Counts()

    def worker(self, model: Model) -> Replies:
        server = (ModelAddress("http://127.0.0.1:9/", "huggingface"),)
        settings = Settings(model=ModelSettings(servers=server, **self.settings))
        return Replies(self.leases, OpenStreams(self.leases), model, settings, self.counts)

    def send(self, text: str, **options: Any) -> str:
        self.count += 1
        extra = {"options": options} if options else None
        self.sessions.requests.accept(self.session, f"m{self.count}", text, extra=extra)
        return f"m{self.count}"

    def ask(self, text: str, *steps: Any, **options: Any) -> list[list[str]]:
        """Sends a message, and answers all; returns the texts of each prompt."""
        self.send(text, **options)
        return self.answer(*steps)

    def answer(self, *steps: Any) -> list[list[str]]:
        model = Script(*steps)
        self.worker(model).answer(self.session)
        assert not model.steps
        return model.prompts

    def last(self) -> dict[str, Any]:
        return stored_messages(self.sessions, self.session)[-1]

    def failures(self) -> dict[str, str]:
        return self.sessions.snapshot(self.session).failed


@pytest.fixture
def talk(redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str) -> Talk:
    return Talk(redis_client, sessions, leases, session)


@pytest.fixture
def frames(redis_client: redis.Redis, session: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Returns the frames of replies that were published since the start of the test."""
    with Subscription(redis_client, events_channel(session)) as listening:

        def published() -> list[dict[str, Any]]:
            # Whatever was published before this is received before it.
            redis_client.publish(events_channel(session), "end")
            found = []
            while (message := listening.next()) != "end":
                found.append(json.loads(Event.decode(message).frame))
            return [frame for frame in found if frame.get("source") != "human"]

        yield published


def test_a_refused_prompt_is_asked_once_more_with_the_newest_message_alone(talk: Talk) -> None:
    talk.ask("q1", said("a1"))
    assert talk.ask("q2", REFUSED, said("a2")) == [["q1", "a1", "q2"], ["q2"]]
    assert talk.failures() == {}
    assert talk.last()["msg"] == "a2"


def test_a_message_that_the_filter_refuses_alone_fails_and_is_left_out_until_it_is_answered(talk: Talk) -> None:
    talk.ask("q1", said("a1"))
    assert talk.ask("bad", REFUSED, REFUSED) == [["q1", "a1", "bad"], ["bad"]]
    assert talk.failures() == {"m2": REFUSED.public}
    assert "refused" in REFUSED.public
    assert talk.ask("q2", said("a2")) == [["q1", "a1", "q2"]]
    talk.sessions.requests.retry(talk.session, "m2")
    assert talk.answer(said("good after all")) == [["q1", "a1", "bad"]]
    assert talk.ask("q3", said("a3")) == [["q1", "a1", "bad", "good after all", "q2", "a2", "q3"]]


def test_a_first_message_that_is_refused_is_asked_once(talk: Talk) -> None:
    assert talk.ask("bad", REFUSED) == [["bad"]]
    assert talk.failures() == {"m1": REFUSED.public}


def test_a_message_that_is_too_long_alone_fails_and_is_left_out(talk: Talk) -> None:
    talk.ask("q1", said("a1"))
    assert talk.ask("long", TOO_LONG, TOO_LONG) == [["q1", "a1", "long"], ["long"]]
    assert talk.failures() == {"m2": TOO_LONG.public}
    assert talk.ask("q2", said("a2")) == [["q1", "a1", "q2"]]


def test_a_prompt_that_is_halved_may_still_be_refused(talk: Talk) -> None:
    talk.ask("q1", said("a1"))
    talk.ask("q2", said("a2"))
    prompts = talk.ask("q3", TOO_LONG, REFUSED, said("a3"))
    assert prompts == [["q1", "a1", "q2", "a2", "q3"], ["q2", "a2", "q3"], ["q3"]]


@pytest.mark.parametrize(("error", "reason"), [(REFUSED, "content_filter"), (TOO_LONG, "length")])
@pytest.mark.parametrize("begun", [Piece("half"), Piece("", reasoning="half")])
def test_a_refusal_of_what_was_begun_cuts_the_reply(talk: Talk, error: ModelError, reason: str, begun: Piece) -> None:
    talk.ask("q1", said("a1"))
    assert len(talk.ask("q2", [begun, error])) == 1
    assert (talk.last()["msg"], talk.last()["finish_reason"]) == (begun.text, reason)


def test_a_reply_that_a_filter_cuts_says_so(talk: Talk, frames: Callable[[], list[dict[str, Any]]]) -> None:
    talk.ask("q1", [Piece("half"), Piece("", "content_filter")])
    assert talk.last()["finish_reason"] == "content_filter"
    assert frames()[-1] == {"type": "message", **talk.last()}


def test_reasoning_is_streamed_and_stored_apart_from_the_reply(
    talk: Talk, frames: Callable[[], list[dict[str, Any]]]
) -> None:
    thoughts = [Piece("", reasoning="ünd "), Piece("", reasoning="so")]
    talk.ask("q1", [*thoughts, Piece("He", reasoning="!"), Piece("llo", "stop")])
    reply = talk.last()
    assert (reply["msg"], reply["reasoning"]) == ("Hello", "ünd so!")
    published = frames()
    assert published[-1] == {"type": "message", **reply}
    shown = {"reasoning": "", "delta": ""}
    for frame in published[:-1]:
        assert (frame["id"], frame["reply_to"]) == (reply["id"], "m1")
        shown[frame["type"]] = shown[frame["type"]][: frame["offset"]] + frame["msg"]
    assert shown["delta"] == "Hello"
    assert talk.ask("q2", said("a2")) == [["q1", "Hello", "q2"]]


def test_reasoning_is_in_prompts_when_the_setting_wants_it(talk: Talk) -> None:
    talk.settings["keep_reasoning"] = True
    talk.ask("q1", [Piece("", reasoning="hm"), Piece("a1", "stop")])
    talk.ask("q2", [Piece("", reasoning="only this"), Piece("", "stop")])
    assert talk.ask("q3", said("a3")) == [["q1", "<think>\nhm\n</think>\n\na1", "q3"]]


def test_a_reply_without_reasoning_has_no_field_for_it(talk: Talk) -> None:
    talk.ask("q1", said("a1"))
    assert "reasoning" not in talk.last()
    assert not talk.client.exists(session_keys(talk.session).partial_reasoning)


def test_reasoning_is_bounded_and_says_so(talk: Talk) -> None:
    many = [Piece("", reasoning="x" * 999) for _ in range(60)]
    talk.ask("q1", [*many, Piece("a1", "stop")])
    assert talk.last()["reasoning"] == "x" * MAX_REASONING_LENGTH + REASONING_CUT
    assert talk.last()["msg"] == "a1"


def test_reasoning_of_just_the_bound_is_whole(talk: Talk) -> None:
    talk.ask("q1", [Piece("", reasoning="x" * MAX_REASONING_LENGTH), Piece("a1", "stop")])
    assert talk.last()["reasoning"] == "x" * MAX_REASONING_LENGTH


def until_cancelled(*pieces: Piece) -> Callable[[Call], Iterator[Piece]]:
    """Gives the pieces, and then waits until the call is ended."""

    def give(call: Call) -> Iterator[Piece]:
        call.begin()
        yield from pieces
        eventually(lambda: call.cancelled is not None, what="the call is ended")
        call.check()

    return give


def test_a_stop_during_thinking_commits_an_empty_reply_with_its_reasoning(talk: Talk) -> None:
    talk.ask("q0", said("a0"))
    talk.send("q1")
    worker = talk.worker(Script(until_cancelled(Piece("", reasoning="hm"))))
    thread = threading.Thread(target=worker.answer, args=(talk.session,))
    thread.start()
    eventually(lambda: talk.sessions.snapshot(talk.session).reasoning == "hm", what="the reasoning is stored")
    reconnected = list(replay(talk.session, talk.sessions.snapshot(talk.session)))
    assert [(f["type"], f["offset"], f["msg"], f["reply_to"]) for f in reconnected] == [("reasoning", 0, "hm", "m2")]
    talk.sessions.requests.stop(talk.session)
    thread.join()
    reply = talk.last()
    assert (reply["msg"], reply["reasoning"], reply["finish_reason"]) == ("", "hm", "stopped")
    assert not talk.client.exists(session_keys(talk.session).partial_reasoning)
    assert talk.ask("q2", said("a2")) == [["q0", "a0", "q2"]]


def test_a_client_that_reconnects_gets_the_reasoning_and_then_the_text(talk: Talk) -> None:
    talk.send("q1")
    worker = talk.worker(Script(until_cancelled(Piece("", reasoning="hm"), Piece("Hel"), Piece("lo"))))
    thread = threading.Thread(target=worker.answer, args=(talk.session,))
    thread.start()
    eventually(lambda: talk.sessions.snapshot(talk.session).partial == "Hello", what="the text is stored")
    reconnected = list(replay(talk.session, talk.sessions.snapshot(talk.session)))
    assert [(f["type"], f["offset"], f["msg"]) for f in reconnected] == [("reasoning", 0, "hm"), ("delta", 0, "Hello")]
    talk.sessions.requests.stop(talk.session)
    thread.join()


def test_thinking_past_the_deadline_is_a_reply_that_was_cut(talk: Talk) -> None:
    talk.settings["timeout"] = 60

    def overdue(call: Call) -> Iterator[Piece]:
        call.begin()
        assert 0 < call.deadline - time.monotonic() <= 60
        yield Piece("", reasoning="hm")
        # As if the reply had taken as long as it may.
        call.deadline = 0.0
        eventually(lambda: call.cancelled is not None, what="the call is ended")
        call.check()

    talk.ask("q1", overdue)
    assert (talk.last()["msg"], talk.last()["reasoning"], talk.last()["finish_reason"]) == ("", "hm", "length")


def test_a_reply_that_is_tried_again_thinks_from_the_beginning(talk: Talk) -> None:
    cut = TransientModelError("cut_off", "the stream ended")
    talk.ask("q1", [Piece("", reasoning="first thought"), cut])
    assert talk.sessions.snapshot(talk.session).reasoning == ""
    talk.client.hdel(session_keys(talk.session).state, "hold")
    talk.answer([Piece("", reasoning="second"), Piece("a1", "stop")])
    assert (talk.last()["msg"], talk.last()["reasoning"]) == ("a1", "second")


def test_text_that_turns_out_to_be_thinking_is_no_part_of_the_reply(
    talk: Talk, frames: Callable[[], list[dict[str, Any]]]
) -> None:
    shown = threading.Event()

    def late(call: Call) -> Iterator[Piece]:
        yield Piece("Let me see. ")
        eventually(lambda: talk.sessions.snapshot(talk.session).partial, what="the text is reported")
        shown.set()
        yield Piece("Four", None, "Yes.", retracts=True)
        yield Piece(".", "stop")

    talk.ask("two and two?", late)
    assert shown.is_set()
    assert (talk.last()["msg"], talk.last()["reasoning"]) == ("Four.", "Let me see. Yes.")
    text = ""
    for frame in frames():
        if frame["type"] == "delta":
            text = text[: frame["offset"]] + frame["msg"]
    assert text == "Four."


def test_a_reply_is_stored_and_counted_with_the_tokens_that_the_server_reports(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        talk.ask("q1", [Piece("a1"), Piece("", "stop", usage=Usage(90, 60, 5))])
    assert talk.last()["usage"] == {"prompt_tokens": 90, "cached_tokens": 60, "completion_tokens": 5}
    assert "tokens: 90 of the prompt, 60 cached; 5 generated" in caplog.text
    talk.counts.flush(talk.client)
    counted = sums(talk.client)
    assert [counted[f"{TOKENS.name}:{kind}"] for kind in TOKENS.values] == [90, 60, 5]


def test_the_tokens_of_a_reply_without_a_report_are_estimated_and_not_counted(talk: Talk) -> None:
    talk.ask("q1", [Piece("a"), Piece("b"), Piece("", "stop")])
    usage = talk.last()["usage"]
    assert usage == {
        "prompt_tokens": estimated_tokens("q1"),
        "cached_tokens": 0,
        "completion_tokens": 2,
        "estimated": True,
    }
    talk.counts.flush(talk.client)
    assert not any(field.startswith(TOKENS.name) for field in sums(talk.client))


BROKEN = TransientModelError("cut_off", "the stream ended")


def test_a_reply_with_options_ends_where_it_was_sent_instead_of_beginning_again(talk: Talk) -> None:
    talk.ask("q1", [Piece("half of "), BROKEN], truncation="disabled", stream="events")
    assert (talk.last()["msg"], talk.last()["finish_reason"]) == ("half of ", "interrupted")
    assert talk.failures() == {}


def test_a_reply_with_options_of_which_nothing_was_sent_is_tried_again(talk: Talk) -> None:
    talk.settings["attempts"] = 1
    talk.ask("q1", BROKEN, truncation="disabled")
    assert talk.failures() == {"m1": BROKEN.public}


def call(arguments: str, name: str = "look") -> dict[str, str]:
    return {"type": "function_call", "call_id": f"call_{len(arguments)}", "name": name, "arguments": arguments}


def test_a_call_that_was_sent_goes_on_under_its_id_or_ends_as_incomplete(talk: Talk) -> None:
    """The model calls again, with the same arguments first, then with others."""
    options = {"stream": "events", "tools": [{"name": "look"}, {"name": "other"}]}
    for last, again, reason in (
        (call('{"at":1}'), call('{"at":1}'), "stop"),
        (call('{"to":1}'), call('{"at":'), "interrupted"),
        (call('{"at":1}', "other"), call('{"at":'), "interrupted"),
    ):
        talk.ask("q", [Piece("", reasoning="hm"), Piece("", calls=(call('{"at":'),)), BROKEN], **options)
        assert talk.sessions.snapshot(talk.session).reasoning == "hm"
        talk.client.hdel(session_keys(talk.session).state, "hold")
        talk.answer([Piece("", calls=(call("{"),)), Piece("", "stop", calls=(last,))])
        (item,) = talk.last()["items"]
        assert (item["arguments"], item["call_id"]) == (again["arguments"], "call_6")
        assert (talk.last()["finish_reason"], item.get("status") == "incomplete") == (reason, reason != "stop")


def test_thoughts_that_were_sent_stay_when_the_model_thinks_again(talk: Talk) -> None:
    talk.ask("q", [Piece("", reasoning="first"), BROKEN], stream="events")
    talk.client.hdel(session_keys(talk.session).state, "hold")
    talk.answer([Piece("", reasoning="second"), Piece("text", reasoning=""), Piece("", "stop", reasoning="late")])
    assert (talk.last()["msg"], talk.last()["reasoning"]) == ("text", f"first{THINKS_AGAIN}second")


def test_text_with_options_that_turns_out_to_be_thinking_stays_text(talk: Talk) -> None:
    pieces = [Piece("I think."), Piece("So.", None, " I", retracts=True), Piece("", "stop")]
    talk.ask("q1", pieces, truncation="disabled")
    assert (talk.last()["msg"], "reasoning" in talk.last()) == ("I think. ISo.", False)


def test_a_prompt_with_options_loses_older_messages_only_if_its_client_agrees(talk: Talk) -> None:
    talk.ask("q1", said("a1"), truncation="disabled")
    talk.ask("q2", TOO_LONG, truncation="disabled")
    assert talk.failures() == {"m2": TOO_LONG.public}
    assert talk.ask("q3", TOO_LONG, said("a3"), truncation="auto") == [["q1", "a1", "q3"], ["q3"]]


def test_a_request_with_options_beyond_the_limit_for_prompts_asks_no_model(talk: Talk) -> None:
    talk.settings = {"max_prompt_tokens": 30}
    talk.ask("q1", said("a1"), truncation="disabled")
    assert talk.ask("long " * 15, truncation="disabled") == []
    assert talk.failures() == {"m2": TOO_LONG.public}
    assert talk.ask("long " * 14, said("a3"), truncation="auto") == [["long " * 14]]


def outcomes(talk: Talk) -> dict[str, float]:
    """The counters of replies and of the model's errors."""
    talk.counts.flush(talk.client)
    return {
        name: value
        for name, value in sums(talk.client).items()
        if name.startswith((REPLIES.name, "chatbot_model_errors"))
    }


NO_TOOLS = NotSupported("refused", "400: no tools")


@pytest.mark.parametrize(
    ("text", "step", "options"),
    [
        ("long " * 30, None, {"truncation": "disabled"}),
        ("long " * 30, PromptTooLong("too_long", "400"), {}),
        ("q1", PromptTooLong("too_long", "400"), {"tools": [{"name": "look", "description": "long " * 30}]}),
        ("q1", NO_TOOLS, {"tools": [{"name": "look"}]}),
        ("q1", REFUSED, {}),
    ],
    ids=["beyond the limit", "long for the model", "long tools", "no tools", "filtered"],
)
def test_a_clients_own_fault_is_neither_an_error_nor_the_models_failure(
    talk: Talk, caplog: pytest.LogCaptureFixture, text: str, step: Any, options: dict[str, Any]
) -> None:
    talk.settings = {"max_prompt_tokens": 30}
    talk.send(text, **options)
    with caplog.at_level("INFO"):
        outcome = talk.worker(Script(*filter(None, [step]))).answer(talk.session)
    (line,) = (record for record in caplog.records if "not retrying" in record.message)
    assert line.levelname == "INFO"
    assert outcome.failures == 0
    assert "m1" in talk.failures()
    assert outcomes(talk) == {f"{REPLIES.name}:refused": 1}


def test_a_fitting_prompt_that_is_too_long_for_the_model_is_the_settings_fault(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    for number, options in enumerate(({}, {"truncation": "disabled"}), 1):
        talk.send("q1", **options)
        assert talk.worker(Script(PromptTooLong("too_long", "400"))).answer(talk.session).failures == 1
        assert [record.levelname for record in caplog.records if "not retrying" in record.message] == ["ERROR"] * number
    assert outcomes(talk) == {f"{REPLIES.name}:failed": 2, f"{MODEL_ERRORS.name}:too_long": 2}


class Continuing(Script):
    """A model that can be asked to continue a reply."""

    continues = True


def die(talk: Talk, *pieces: Piece) -> None:
    """A worker generates these pieces and dies, once they are reported."""
    text = "".join(piece.text for piece in pieces)

    def dying(call: Call) -> Iterator[Piece]:
        yield from pieces
        eventually(lambda: talk.sessions.snapshot(talk.session).partial == text, what="the text is reported")
        call.cancel("lease")
        call.check()

    talk.worker(Continuing(dying)).answer(talk.session)
    talk.client.delete(session_keys(talk.session).lease)


def test_a_reply_goes_on_where_a_dead_worker_left_it(
    talk: Talk, frames: Callable[[], list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    talk.send("q1")
    die(talk, Piece("Hé"), Piece("llo "), Piece("you"))
    limits: list[int] = []

    def rest(call: Call) -> Iterator[Piece]:
        limits.append(call.generated)
        yield Piece(" there")
        yield Piece("!", "stop", usage=Usage(9, 8, 2))

    model = Continuing(rest)
    talk.worker(model).answer(talk.session)
    assert model.prompts == [["q1", "Héllo you"]]
    assert limits == [3], "tokens generated before count towards the limit"
    assert talk.last()["msg"] == "Héllo you there!"
    # Log lines and counters agree, as both have what the server reported.
    assert "tokens: 9 of the prompt, 8 cached; 2 generated" in caplog.text
    talk.counts.flush(talk.client)
    counted = sums(talk.client)
    assert [counted[f"{TOKENS.name}:{kind}"] for kind in TOKENS.values] == [9, 8, 2]
    # Of the first attempt the server reported nothing.
    expected = {"prompt_tokens": 9, "cached_tokens": 8, "completion_tokens": 5, "estimated": True}
    assert talk.last()["usage"] == expected
    text, shown = "", []
    for frame in frames():
        if frame["type"] == "delta":
            assert frame["offset"] == len(text), "what is shown never jumps back"
            text += frame["msg"]
            shown.append(text)
    assert text == "Héllo you there!"


def test_a_reply_begins_again_where_the_model_cannot_continue_it(
    talk: Talk, frames: Callable[[], list[dict[str, Any]]]
) -> None:
    talk.send("q1")
    die(talk, Piece("Hello"))
    model = Continuing(CannotContinue("it does not"), said("Good day"))
    talk.worker(model).answer(talk.session)
    assert model.prompts == [["q1", "Hello"], ["q1"]]
    assert talk.last()["msg"] == "Good day"
    assert [f["offset"] for f in frames() if f["type"] == "delta"] == [0, 0]


def test_a_reply_whose_limit_was_reached_ends_without_another_call(talk: Talk) -> None:
    talk.settings["max_new_tokens"] = 2
    talk.send("q1")
    die(talk, Piece("a"), Piece("b"))
    model = Continuing()
    talk.worker(model).answer(talk.session)
    assert (talk.last()["msg"], talk.last()["finish_reason"], model.prompts) == ("ab", "length", [])


def test_a_stream_that_was_cut_goes_on_after_the_wait(talk: Talk) -> None:
    talk.send("q1")
    talk.worker(Continuing([Piece("Hello"), Piece(" you"), BROKEN])).answer(talk.session)
    assert talk.sessions.snapshot(talk.session).partial == "Hello you", "also the text that was not reported yet"
    talk.client.hdel(session_keys(talk.session).state, "hold")
    model = Continuing(said(" there"))
    talk.worker(model).answer(talk.session)
    assert (model.prompts, talk.last()["msg"]) == ([["q1", "Hello you"]], "Hello you there")


def test_a_reply_that_is_stopped_after_its_worker_died_is_what_was_shown(talk: Talk) -> None:
    talk.send("q1")
    die(talk, Piece("Hello"))
    talk.sessions.requests.stop(talk.session)
    talk.worker(Continuing()).answer(talk.session)
    assert (talk.last()["msg"], talk.last()["finish_reason"]) == ("Hello", "stopped")
    assert talk.last()["usage"] == estimated("q1", "Hello")


def test_a_reply_with_options_that_no_model_continues_counts_with_an_estimate(talk: Talk) -> None:
    talk.sessions.requests.accept(talk.session, "m1", "q1", extra={"options": {"stream": "events"}})
    die(talk, Piece("Hello"))
    talk.worker(Script()).answer(talk.session)
    assert (talk.last()["msg"], talk.last()["finish_reason"]) == ("Hello", "interrupted")
    assert talk.last()["usage"] == estimated("q1", "Hello")


@pytest.mark.parametrize(
    "model", [Script(said("Good day")), Continuing(CannotContinue("it does not"), said("Good day"))]
)
def test_a_whole_reply_with_options_begins_again_where_no_model_continues_it(talk: Talk, model: Model) -> None:
    talk.sessions.requests.accept(talk.session, "m1", "q1", extra={"options": {"truncation": "disabled"}})
    die(talk, Piece("Hello"))
    talk.worker(model).answer(talk.session)
    assert (talk.last()["msg"], talk.last()["finish_reason"]) == ("Good day", "stop")


def estimated(prompt: str, text: str) -> dict[str, Any]:
    return Usage(estimated_tokens(prompt), 0, estimated_tokens(text), estimated=True).document()


def test_a_reply_with_options_goes_on_or_ends_but_never_changes(talk: Talk) -> None:
    talk.sessions.requests.accept(talk.session, "m1", "q1", extra={"options": {"stream": "events"}})
    die(talk, Piece("Hello"))
    talk.worker(Continuing(said(" you"))).answer(talk.session)
    assert talk.last()["msg"] == "Hello you"
    talk.sessions.requests.accept(talk.session, "m2", "q2", extra={"options": {"stream": "events"}})
    die(talk, Piece("Hello"))
    talk.worker(Continuing(CannotContinue("it does not"))).answer(talk.session)
    assert (talk.last()["msg"], talk.last()["finish_reason"]) == ("Hello", "interrupted")
