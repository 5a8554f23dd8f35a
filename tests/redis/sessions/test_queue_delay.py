"""The queue delay, against a real Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import RateLimited
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.queue_delay import read_lines, retry_after
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import connect
from chatbot.store.keys import LEDGER, WAITING
from chatbot.store.partitions import partitions_of
from devtools.harness.deployment import eventually
from devtools.harness.histories import stored_messages
from devtools.harness.ports import free_port
from tests.support.ledger import end_session, overdue


def read(client: redis.Redis) -> tuple[int, float]:
    (line,) = read_lines(partitions_of(client).all)
    return line.ready, line.delay


def test_a_message_waits_until_a_worker_takes_it(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str
) -> None:
    assert read(redis_client) == (0, 0.0)
    sessions.requests.accept(session, "m1", "hello")
    eventually(lambda: read(redis_client)[1] > 0.1)
    assert read(redis_client)[0] == 1
    work = leases.claim(session)
    assert work is not None
    assert read(redis_client) == (0, 0.0)
    # A message behind another one of its session does not wait for a worker.
    sessions.requests.accept(session, "m2", "hello")
    assert read(redis_client) == (0, 0.0)
    # The worker shuts down and releases the lease.
    leases.commit(work, "hi", "stop", go_on=False)
    assert read(redis_client)[0] == 1
    work = leases.claim(session)
    assert work is not None
    leases.commit(work, "hi", "stop", go_on=True)
    assert redis_client.zcard(WAITING) == 0


def test_a_message_with_a_scheduled_retry_waits_from_its_due_time(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = leases.claim(session)
    assert work is not None
    leases.postpone(work, 60, loading=False)
    assert read(redis_client) == (0, 0.0)
    redis_client.zincrby(WAITING, -60_000, session)
    eventually(lambda: read(redis_client)[0] == 1)


def test_a_message_whose_worker_died_waits_again(redis_client: redis.Redis, sessions: Sessions, session: str) -> None:
    leases = Leases(redis_client, ttl=60, history_messages=4, channel=lambda _: "no-subscriber")
    sessions.requests.accept(session, "m1", "hello")
    assert leases.claim(session) is not None
    assert overdue(redis_client) == [session]
    assert read(redis_client)[0] == 1


def test_a_session_that_expired_does_not_wait(redis_client: redis.Redis, sessions: Sessions, session: str) -> None:
    sessions.requests.accept(session, "m1", "hello")
    end_session(redis_client, session)
    # Its due time is far away.
    redis_client.zadd(LEDGER, {session: 4e12})
    overdue(redis_client)
    assert redis_client.zcard(WAITING) == 0
    assert redis_client.zcard(LEDGER) == 1


def test_a_retry_waits_and_is_refused_like_a_message(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    work = leases.claim(session)
    assert work is not None
    leases.fail(work, "no", go_on=True)
    other = session_id(sessions.create("Bob")["token"])
    sessions.requests.accept(other, "m1", "hello")
    # Redis counts whole ms here: a wait of just 0.1 s might not be longer than that to it.
    eventually(lambda: read(redis_client)[1] > 0.2)
    limited = Sessions(redis_client, ttl=60, max_pending=8, max_queue_age=0.1)
    steps: list[Callable[[], object]] = [
        lambda: limited.requests.retry(session, "m1"),
        lambda: limited.requests.accept(session, "m2", "hello"),
    ]
    for refused in steps:
        with pytest.raises(RateLimited) as error:
            refused()
        assert error.value.retry_after is not None
        assert 1 <= error.value.retry_after <= 60
    assert len(stored_messages(sessions, session)) == 1
    sessions.requests.retry(session, "m1")
    assert read(redis_client)[0] == 2


@pytest.mark.parametrize(
    ("expected", "wait"),
    [
        # A little above: the line only has to get a little shorter.
        (61, 6.1),
        # Far above: not before the surplus is gone.
        (90, 30),
        (10_000, 60),
        (0.5, 1),
    ],
)
def test_retry_after_follows_from_the_expected_wait(expected: float, wait: float) -> None:
    assert retry_after(expected, 60) == pytest.approx(wait)


def test_without_redis_reading_fails() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", 1)
    with pytest.raises(StoreUnavailable):
        read(client)
    client.connection_pool.disconnect()
