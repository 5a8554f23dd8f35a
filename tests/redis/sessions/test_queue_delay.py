"""How far behind the workers are, against a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import redis

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import RateLimited
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.messages import Sessions
from chatbot.sessions.queue_delay import QueueDelay
from chatbot.store.client import connect
from chatbot.store.keys import LEDGER, WAITING, session_keys
from devtools.harness.deployment import eventually, free_port


def look(client: redis.Redis) -> tuple[int, float]:
    return QueueDelay(client).read()


def test_a_message_waits_until_a_worker_takes_it(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str
) -> None:
    assert look(redis_client) == (0, 0.0)
    sessions.accept(session, "m1", "hello")
    eventually(lambda: look(redis_client)[1] > 0.1)
    assert look(redis_client)[0] == 1
    work = leases.claim(session)
    assert work is not None
    assert look(redis_client) == (0, 0.0)
    # One that stands behind it in its own session does not wait for a worker.
    sessions.accept(session, "m2", "hello")
    assert look(redis_client) == (0, 0.0)
    # The worker ends and leaves it to others.
    leases.commit(work, "hi", "stop", go_on=False)
    assert look(redis_client)[0] == 1
    work = leases.claim(session)
    assert work is not None
    leases.commit(work, "hi", "stop", go_on=True)
    assert redis_client.zcard(WAITING) == 0


def test_one_put_off_waits_only_once_it_is_due(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.accept(session, "m1", "hello")
    work = leases.claim(session)
    assert work is not None
    leases.postpone(work, 0.3, loading=False)
    assert look(redis_client) == (0, 0.0)
    eventually(lambda: look(redis_client)[0] == 1)


def test_one_whose_worker_died_waits_again(
    redis_client: redis.Redis, sessions: Sessions, ledger: Ledger, session: str
) -> None:
    mortal = Leases(redis_client, ttl=60, history_messages=4, channel=lambda: "nobody-listens")
    sessions.accept(session, "m1", "hello")
    assert mortal.claim(session) is not None
    assert ledger.overdue() == [session]
    assert look(redis_client)[0] == 1


def test_a_session_that_ended_waits_no_more(
    redis_client: redis.Redis, sessions: Sessions, ledger: Ledger, session: str
) -> None:
    sessions.accept(session, "m1", "hello")
    redis_client.delete(*session_keys(session)[:-2])
    # The ledger looks at it much later.
    redis_client.zadd(LEDGER, {session: 4e12})
    ledger.overdue()
    assert redis_client.zcard(WAITING) == 0
    assert redis_client.zcard(LEDGER) == 1


def test_a_retry_waits_like_a_message_and_may_be_refused_like_one(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.accept(session, "m1", "hello")
    work = leases.claim(session)
    assert work is not None
    leases.fail(work, "no", go_on=True)
    other = session_id(sessions.create("Bob")["token"])
    sessions.accept(other, "m1", "hello")
    eventually(lambda: look(redis_client)[1] > 0.1)
    wary = Sessions(redis_client, ttl=60, max_pending=8, max_queue_age=0.1)
    steps: list[Callable[[], object]] = [
        lambda: wary.retry(session, "m1"),
        lambda: wary.accept(session, "m2", "hello"),
    ]
    for refused in steps:
        with pytest.raises(RateLimited) as error:
            refused()
        assert error.value.retry_after is not None
        assert 1 <= error.value.retry_after <= 60
    assert len(sessions.read(session)["messages"]) == 1
    sessions.retry(session, "m1")
    assert look(redis_client)[0] == 2


@pytest.mark.parametrize(
    ("ages", "wait"),
    [
        # Twice as fast as messages came: 60 s of arrivals too many are gone in 60 s, all in 60 s.
        ([(0, 122), (2, 120)], 60),
        # Ten times as fast.
        ([(0, 98), (2, 80)], pytest.approx(20 / 9, abs=0.1)),
        # Nobody works.
        ([(0, 62), (2, 64)], 30),
        # Nothing is known yet.
        ([(0, 70)], 30),
        # Half as fast: all that waits has been taken after twice its age; that is long enough to say.
        ([(0, 61), (2, 62)], 60),
        # Nearly there.
        ([(0, 98), (2, 60.001)], 1),
    ],
)
def test_the_wait_follows_from_the_pace(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, ages: list[tuple[float, float]], wait: float
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("chatbot.sessions.queue_delay.time", SimpleNamespace(monotonic=lambda: clock[0]))
    queue_delay = QueueDelay(redis_client)
    for moment, age in ages[:-1]:
        clock[0] = 1000.0 + moment
        queue_delay.observe(age)
    clock[0] = 1000.0 + ages[-1][0]
    assert queue_delay.retry_after(ages[-1][1], 60) == wait


def test_without_redis_nothing_is_known() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", 1)
    with pytest.raises(StoreUnavailable):
        QueueDelay(client).read()
    client.connection_pool.disconnect()
