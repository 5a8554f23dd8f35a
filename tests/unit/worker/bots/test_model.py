"""How a bot of the operator's own is called, cancelled, and what becomes of what it yields and raises."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from chatbot.bot import Chunk, Context, Message, Retry, Usage
from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.logs.ids import present_ids
from chatbot.worker.bots.model import PythonModel
from chatbot.worker.models.answers.piece import Piece
from chatbot.worker.models.answers.usage import Usage as ModelUsage
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled, ModelUnavailable, PermanentModelError, TransientModelError
from chatbot.worker.prompts import PromptMessage
from devtools.harness.deployment import eventually

Make = Callable[..., PythonModel]

QUESTION = [PromptMessage("user", "q1"), PromptMessage("assistant", "a1"), PromptMessage("user", "q2")]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(bot: Any, facts: Any = lambda _: ("Ada", "2026-11-27T00:00:00Z"), concurrency: int = 8) -> PythonModel:
        module = ModuleType("bots_of_this_test")
        module.reply = bot  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return PythonModel(f"{module.__name__}:reply", facts, concurrency)

    return make


def text(model: PythonModel, call: Call | None = None) -> str:
    pieces = list(model.generate(QUESTION, call or Call(30)))
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish_reason == "stop"
    return "".join(piece.text for piece in pieces)


def plain(conversation: list[Message]) -> str:
    return "-".join(f"{message.role}:{message.text}" for message in conversation)


def generator(conversation: list[Message]) -> Iterator[str]:
    yield from plain(conversation)


def listed(conversation: list[Message]) -> list[str]:
    return list(plain(conversation))


async def coroutine(conversation: list[Message]) -> str:
    await asyncio.sleep(0)
    return plain(conversation)


async def async_generator(conversation: list[Message]) -> AsyncIterator[str]:
    for character in plain(conversation):
        await asyncio.sleep(0)
        yield character


async def coroutine_of_a_generator(conversation: list[Message]) -> AsyncIterator[str]:
    return async_generator(conversation)


def function_of_a_coroutine(conversation: list[Message]) -> Any:
    return coroutine(conversation)


def function_of_an_async_generator(conversation: list[Message]) -> Any:
    return async_generator(conversation)


class Callable_:
    async def __call__(self, conversation: list[Message]) -> str:
        return plain(conversation)


@pytest.mark.parametrize(
    "bot",
    [
        plain,
        generator,
        listed,
        coroutine,
        async_generator,
        coroutine_of_a_generator,
        function_of_a_coroutine,
        function_of_an_async_generator,
        partial(async_generator),
        Callable_(),
    ],
)
def test_every_form_of_a_function_gets_the_conversation_and_replies(make: Make, bot: Any) -> None:
    assert text(make(bot)) == "user:q1-assistant:a1-user:q2"


def test_a_chunk_may_hold_thinking_the_tokens_and_the_reason_for_the_end(make: Make) -> None:
    def bot(_: list[Message]) -> Iterator[Any]:
        yield Chunk(reasoning="hm")
        yield "  half a pair: \ud83d"
        yield "\ude00 "
        yield Chunk(usage=Usage(5, 1))
        yield Chunk("cut", "length", usage=Usage(5, 6, cached_tokens=4))
        yield "never"

    pieces = list(make(bot).generate(QUESTION, Call(30)))
    assert pieces[0] == Piece("", None, "hm")
    assert "".join(piece.text for piece in pieces) == "half a pair: \U0001f600 cut"
    assert (pieces[-1].finish_reason, pieces[-1].usage) == ("length", ModelUsage(5, 4, 6))


def test_the_usage_may_come_with_any_chunk(make: Make) -> None:
    async def bot(_: list[Message]) -> AsyncIterator[Any]:
        yield Chunk(usage=Usage(5, 6))
        yield "text"

    assert list(make(bot).generate(QUESTION, Call(30)))[-1] == Piece("", "stop", usage=ModelUsage(5, 0, 6))


def test_all_async_bots_run_in_one_loop_and_plain_ones_in_threads_with_the_ids_of_log_lines(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[Any, dict[str, str]]] = []

    async def asynchronous(_: list[Message]) -> str:
        seen.append((asyncio.get_running_loop(), present_ids()))
        return ""

    def synchronous(_: list[Message]) -> str:
        seen.append((threading.current_thread(), present_ids()))
        return ""

    for bot in (asynchronous, synchronous):
        model = make(bot)
        for number in (1, 2):
            with bound(message_id=f"m{number}"):
                text(model)
    assert seen[0][0] is seen[1][0]
    assert seen[2][0] is not seen[3][0]
    assert threading.current_thread() not in (seen[2][0], seen[3][0])
    assert [ids["message_id"] for _, ids in seen] == ["m1", "m2", "m1", "m2"]


def test_the_context_holds_the_facts_of_the_session(make: Make) -> None:
    contexts: list[Context] = []

    def bot(_: list[Message], context: Context) -> str:
        contexts.append(context)
        return ""

    text(make(bot), Call(30, session="5e55"))
    (context,) = contexts
    assert (context.session, context.name, context.session_start) == ("5e55", "Ada", "2026-11-27T00:00:00Z")
    assert (context.attempt, context.messages) == (1, ())


def test_facts_that_cannot_be_read_are_a_failure_that_passes(make: Make) -> None:
    def no_facts(_: str) -> Any:
        raise StoreUnavailable("away")

    def bot(_: list[Message], context: Context) -> str:
        return context.name

    with pytest.raises(ModelUnavailable):
        text(make(bot, no_facts))
    assert text(make(plain, no_facts))


# -- Cancelling


class Watched:
    """A bot that yields once and then waits, in one of several ways; notes that it was closed."""

    def __init__(self) -> None:
        self.began, self.closed = threading.Event(), threading.Event()
        self.context: Context | None = None

    def yielding(self, _: list[Message]) -> Iterator[str]:
        try:
            while True:
                yield "x"
                self.began.set()
                time.sleep(0.001)
        finally:
            self.closed.set()

    def waiting(self, _: list[Message], context: Context) -> str:
        self.began.set()
        before = context.cancelled
        assert context.wait(30)
        assert (before, context.cancelled) == (False, True)
        self.closed.set()
        return "not used"

    def blocking(self, _: list[Message], context: Context) -> Iterator[str]:
        yield "x"
        self.context = context
        self.began.set()
        self.closed.wait(30)

    async def sleeping(self, _: list[Message]) -> AsyncIterator[str]:
        try:
            yield "x"
            self.began.set()
            await asyncio.sleep(30)
        finally:
            self.closed.set()

    async def awaiting(self, _: list[Message]) -> str:
        self.began.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.closed.set()
            raise
        return ""


def cancelled_after_begin(model: PythonModel, watched: Watched) -> float:
    """Cancels a call once the bot has begun; returns the seconds until its slot was free."""
    call = Call(30)
    times = []

    def cancel() -> None:
        assert watched.began.wait(30)
        times.append(time.monotonic())
        call.cancel("stop")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CallCancelled):
        text(model, call)
    took = time.monotonic() - times[0]
    thread.join()
    return took


@pytest.mark.parametrize("form", ["yielding", "waiting", "sleeping", "awaiting"])
def test_a_cancelled_bot_is_closed_and_its_slot_is_free_at_once(make: Make, form: str) -> None:
    watched = Watched()
    # The promise is 0.2 s, but the machine may be busy; a bot that is not closed goes on for 30 s.
    assert cancelled_after_begin(make(getattr(watched, form)), watched) < 10
    assert watched.closed.wait(30)


def test_a_bot_that_blocks_holds_no_slot_and_sees_its_flag(make: Make) -> None:
    watched = Watched()
    assert cancelled_after_begin(make(watched.blocking), watched) < 10
    assert watched.context is not None
    assert watched.context.cancelled
    watched.closed.set()


def test_too_many_bots_that_block_are_reported_and_no_further_one_is_called(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbot.worker.bots.caller._GRACE", 0.0)
    watched = Watched()
    model = make(watched.blocking, concurrency=2)
    for _ in range(2):
        watched.began.clear()
        cancelled_after_begin(model, watched)
    with pytest.raises(ModelUnavailable, match="2 cancelled calls of bots_of_this_test:reply have not returned"):
        text(model)
    assert "context.cancelled ends them" in caplog.text
    watched.closed.set()
    eventually(lambda: not model._caller._cancelled)
    assert text(model) == "x"


def test_a_thread_that_cannot_be_started_is_a_failure_that_passes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(plain)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ModelUnavailable, match="can't start new thread"):
            text(model)
    assert not model._caller._cancelled
    assert text(model)


def test_a_call_that_was_cancelled_before_it_began_calls_no_bot(make: Make) -> None:
    call = Call(30)
    call.cancel("stop")
    watched = Watched()
    with pytest.raises(CallCancelled):
        text(make(watched.yielding), call)
    assert not watched.began.is_set()


def test_a_reader_that_stops_reading_closes_the_bot(make: Make) -> None:
    watched = Watched()
    pieces = make(watched.yielding).generate(QUESTION, Call(30))
    next(pieces)
    pieces.close()
    assert watched.closed.wait(30)


def test_a_bot_that_is_faster_than_its_reader_waits(make: Make) -> None:
    made: list[int] = []

    def bot(_: list[Message]) -> Iterator[str]:
        for number in range(1000):
            made.append(number)
            yield "x"

    async def asynchronous(_: list[Message]) -> AsyncIterator[str]:
        for item in bot([]):
            yield item

    for form in (bot, asynchronous):
        made.clear()
        pieces = make(form).generate(QUESTION, Call(30))
        next(pieces)
        eventually(lambda: len(made) > 60)
        assert len(made) < 100
        assert sum(len(piece.text) for piece in pieces) == 999


# -- Exceptions


def test_an_exception_reaches_the_log_whole(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def bot(_: list[Message]) -> Iterator[str]:
        yield "half"
        raise KeyError("a detail")

    with pytest.raises(PermanentModelError, match="bots_of_this_test:reply raised KeyError"):
        text(make(bot))
    (record,) = (r for r in caplog.records if r.exc_info)
    assert record.levelno == logging.ERROR
    assert 'raise KeyError("a detail")' in caplog.text


@pytest.mark.parametrize("exception", [SystemExit("no"), KeyboardInterrupt(), asyncio.CancelledError()])
def test_not_even_exceptions_that_end_programs_end_a_worker_or_the_loop(make: Make, exception: BaseException) -> None:
    async def asynchronous(_: list[Message]) -> str:
        raise exception

    def synchronous(_: list[Message]) -> str:
        raise exception

    for bot in (asynchronous, synchronous):
        model = make(bot)
        for _ in range(2):
            with pytest.raises(PermanentModelError):
                text(model)


def test_a_retry_that_the_bot_asks_for_is_no_traceback(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async def bot(_: list[Message]) -> str:
        raise Retry("the index is being built", after=2)

    with pytest.raises(TransientModelError, match="the index is being built") as raised:
        text(make(bot))
    assert raised.value.retry_after == 2
    assert not caplog.records


@pytest.mark.parametrize("value", [None, 7, [7], b"bytes", Chunk("x", "tired")])
def test_a_value_that_is_not_text_is_a_permanent_failure_that_names_it(
    make: Make, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    async def asynchronous(_: list[Message]) -> Any:
        return value

    for bot in (lambda _: value, asynchronous):
        with pytest.raises(PermanentModelError):
            text(make(bot))
    assert "TypeError: the bot" in caplog.text or "not 'tired'" in caplog.text
