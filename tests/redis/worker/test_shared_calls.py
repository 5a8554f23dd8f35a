"""Worker processes know each other's calls on several model servers, by a real Redis."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
import redis

from chatbot.store.keys import MODEL_CALLS
from chatbot.worker.models import shared_calls
from chatbot.worker.models.answers.piece import Pieces
from chatbot.worker.models.balancer import BalancedModel
from chatbot.worker.models.call import Call
from chatbot.worker.models.shared_calls import SharedCalls
from devtools.harness.deployment import eventually
from tests.unit.worker.models.test_balancer import Idle


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read does not grow old while this machine is busy with other things."""
    monkeypatch.setattr(shared_calls, "_OLD", 1000)
    monkeypatch.setattr(shared_calls, "_SILENT", 1000)


def test_a_process_knows_the_calls_of_all_others(redis_client: redis.Redis) -> None:
    calls: list[dict[str, int]] = [{"a": 2, "b": 0}, {"a": 1}, {"b": 5}]
    processes = [SharedCalls(lambda: redis_client, lambda own=own: own) for own in calls]  # type: ignore[misc]
    assert processes[0].others() == {}
    for process in [*processes, *processes]:
        process.exchange()
    assert [dict(process.others()) for process in processes] == [{"a": 1, "b": 5}, {"a": 2, "b": 5}, {"a": 3}]
    calls[2]["b"] = 0
    processes[2].exchange()
    processes[0].exchange()
    assert processes[0].others() == {"a": 1}


def test_a_killed_process_counts_for_a_moment_and_is_forgotten(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = SharedCalls(lambda: redis_client, lambda: {"a": 7})
    alive = SharedCalls(lambda: redis_client, lambda: {"a": 1})
    killed.exchange()
    alive.exchange()
    monkeypatch.setattr(shared_calls, "_SILENT", 0)
    alive.exchange()
    assert alive.others() == {}
    killed.exchange()
    alive.exchange()
    assert alive.others() == {"a": 7}
    monkeypatch.setattr(shared_calls, "_FORGET_AFTER", 0)
    alive.exchange()
    assert redis_client.hlen(MODEL_CALLS) == 1


def test_what_another_version_published_counts_as_none(redis_client: redis.Redis) -> None:
    process = SharedCalls(lambda: redis_client, dict)
    redis_client.hset(MODEL_CALLS, mapping={"new": "9 a:4 b c:d", "odd": "", "other": '{"a": 1}'})
    process.exchange()
    assert process.others() == {"a": 4}


def test_old_counts_do_not_count(redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SharedCalls(lambda: redis_client, lambda: {"a": 7})
    process = SharedCalls(lambda: redis_client, dict)
    other.exchange()
    process.exchange()
    assert process.others() == {"a": 7}
    monkeypatch.setattr(shared_calls, "_OLD", 0)
    assert process.others() == {}


def test_workers_with_few_calls_each_spread_them_and_keep_most_sessions_at_their_first_server(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each exchange is the test's own.
    monkeypatch.setattr(SharedCalls, "begun", lambda _: None)
    models = [
        BalancedModel({f"http://model{n}": Idle() for n in range(4)}, 30, lambda: redis_client) for _ in range(20)
    ]
    home, used, replies = 0, Counter[str](), contextlib.ExitStack()
    with replies:
        for n in range(100):
            model, call = models[n % 20], Call(30, session=f"session {n}")
            assert model._shared is not None
            model._shared.exchange()
            pieces: Pieces = replies.enter_context(contextlib.closing(model.generate([], call)))
            before = model._own_calls()
            next(pieces)
            server = next(name for name, calls in model._own_calls().items() if calls > before[name])
            model._shared.exchange()
            used[server] += 1
            home += server == min(model._servers, key=lambda s: s.rank(call.session)).name
    assert max(used.values()) <= 1.3 * 25
    assert home >= 80


def test_calls_are_published_while_there_are_any_and_for_a_moment_after(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_calls, "_LINGER", 0.1)
    models = [BalancedModel({f"http://model{n}": Idle() for n in range(2)}, 30, lambda: redis_client) for _ in range(2)]
    shared = [model._shared for model in models if model._shared is not None]
    with contextlib.ExitStack() as replies:
        for model in models:
            next(replies.enter_context(contextlib.closing(model.generate([], Call(30, session="x")))))
        eventually(lambda: all(sum(each.others().values()) == 1 for each in shared))
    eventually(lambda: not any(each._begun.is_set() for each in shared), what="both threads wait for a call")
    assert not any(":" in text for text in redis_client.hgetall(MODEL_CALLS).values())
