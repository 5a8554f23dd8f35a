"""A bot of the operator's own, against a real Redis: what it is given, and another attempt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from chatbot.bot import Context, Message, Retry
from chatbot.config import PYTHON, ModelSettings, Settings
from chatbot.errors import StoreUnavailable
from chatbot.sessions.ids import reply_id
from chatbot.sessions.leases import Leases, Progress
from chatbot.sessions.sessions import Sessions
from chatbot.telemetry.counters import Counts
from chatbot.worker.bots.model import PythonModel
from chatbot.worker.open_streams import OpenStreams
from chatbot.worker.replies import Replies
from devtools.harness.deployment import eventually
from devtools.harness.histories import stored_messages


@pytest.fixture
def worker(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Replies]:
    """A worker whose bot is a function."""

    def worker(reply: Any) -> Replies:
        module = ModuleType("bot_of_this_test")
        module.reply = reply  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        settings = Settings(model=ModelSettings(servers=(), api=PYTHON, callable="bot_of_this_test:reply"))
        model = PythonModel("bot_of_this_test:reply", leases.facts, 8)
        return Replies(leases, OpenStreams(leases), model, settings, Counts())

    return worker


def test_a_bot_gets_the_facts_of_its_session_and_a_retry_is_another_attempt(
    sessions: Sessions, session: str, worker: Callable[[Any], Replies], monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[Context] = []

    def reply(conversation: list[Message], context: Context) -> Iterator[str]:
        contexts.append(context)
        yield f"{conversation[-1].text} of {context.name}"
        if context.attempt == 1:
            raise Retry("not yet")

    # The backoff, so that the test need not wait.
    monkeypatch.setattr("chatbot.worker.retries._FIRST_BACKOFF", 0.01)
    replies = worker(reply)
    sessions.requests.accept(session, "m1", "question")

    outcome = replies.answer(session)
    assert outcome.failures == 0
    assert outcome.retry_in == pytest.approx(0.01, abs=0.01)
    assert sessions.snapshot(session).pending == ["m1"]
    eventually(lambda: replies.answer(session) == (0, None) and not sessions.snapshot(session).pending)

    human, bot = stored_messages(sessions, session)
    assert bot["msg"] == "question of Ada"
    assert [context.attempt for context in contexts] == [1, 2]
    context = contexts[-1]
    start = sessions.snapshot(session).session_start
    assert (context.session, context.name, context.session_start) == (session, "Ada", start)
    assert (context.message_id, context.reply_id) == ("m1", reply_id(session, "m1"))
    assert list(context.messages) == [human]


def test_a_bot_may_go_on_from_the_text_that_another_worker_has_left(
    sessions: Sessions, leases: Leases, session: str, worker: Callable[[Any], Replies]
) -> None:
    def reply(_: list[Message], context: Context) -> Iterator[str]:
        yield context.partial
        yield " world"

    sessions.requests.accept(session, "m1", "question")
    other = leases.claim(session)
    assert other is not None
    leases.progress([Progress(other, "Hello", 0, {"type": "delta"})])
    leases.hand_back(other)
    # What a client that connects meanwhile sees.
    assert sessions.snapshot(session).partial == "Hello"
    worker(reply).answer(session)
    assert stored_messages(sessions, session)[-1]["msg"] == "Hello world"


def test_a_reply_that_is_stopped_while_no_worker_generates_it_keeps_its_text(
    sessions: Sessions, leases: Leases, session: str, worker: Callable[[Any], Replies]
) -> None:
    sessions.requests.accept(session, "m1", "question")
    other = leases.claim(session)
    assert other is not None
    leases.progress([Progress(other, "Hello", 0, {"type": "delta"})])
    leases.hand_back(other)
    sessions.requests.stop(session)
    worker(lambda _: "never").answer(session)
    bot = stored_messages(sessions, session)[-1]
    assert (bot["msg"], bot["finish_reason"]) == ("Hello", "stopped")


def test_a_session_that_has_ended_has_no_facts(sessions: Sessions, leases: Leases, session: str) -> None:
    sessions.end(session)
    assert leases.facts(session) == ("", "")


def test_facts_cannot_be_read_without_redis() -> None:
    from chatbot.store.client import connect

    with pytest.raises(StoreUnavailable):
        Leases(connect("redis://127.0.0.1:9/0", 1, retries=0), ttl=60, history_messages=4).facts("5e55")
