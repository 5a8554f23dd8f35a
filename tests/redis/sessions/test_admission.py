"""Which messages are accepted when more come than workers can answer in time, against a real Redis."""

from __future__ import annotations

import time

import pytest
import redis

from chatbot.protocol.client_errors import ClientError, RateLimited
from chatbot.sessions.buckets import Bucket
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.queue_delay import expected_wait, read_lines, retry_after
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import PACE, WAITING
from chatbot.store.partitions import partitions_of

#: Seconds that a message may wait.
MAX_WAIT = 10.0


@pytest.fixture
def wary(redis_client: redis.Redis) -> Sessions:
    """Sessions that refuse the surplus."""
    return Sessions(redis_client, ttl=60, max_pending=2, max_queue_age=MAX_WAIT)


def set_pace(client: redis.Redis, sessions_a_second: float) -> None:
    """As if workers had claimed so many for a while."""
    now = int(time.time() * 1000)
    client.hset(PACE, mapping={"claims": sessions_a_second * 100, "ms": 100_000, "at": now})


def send(sessions: Sessions, address: str) -> bool:
    """Whether a message of a new session of the address is accepted."""
    session = session_id(sessions.create("Ada")["token"])
    try:
        sessions.requests.accept(session, "m1", "hello", Terms(address=address))
    except RateLimited:
        return False
    return True


def send_many(client: redis.Redis, sessions: Sessions, pace: float, count: int) -> list[bool]:
    """The same for many messages of one address, at a pace that does not fall meanwhile."""
    accepted = []
    for _ in range(count):
        set_pace(client, pace)
        accepted.append(send(sessions, "10.0.0.1"))
    return accepted


def test_what_would_wait_too_long_is_refused(redis_client: redis.Redis, wary: Sessions) -> None:
    accepted = send_many(redis_client, wary, 1, 20)
    # A line of 10 sessions takes 10 s; one address gets eight ninths of it.
    assert accepted == [True] * 9 + [False] * 11


def test_a_faster_pace_accepts_more(redis_client: redis.Redis, wary: Sessions) -> None:
    assert sum(send_many(redis_client, wary, 2, 40)) == 18


def test_a_newcomer_finds_room_that_a_crowd_leaves(redis_client: redis.Redis, wary: Sessions) -> None:
    send_many(redis_client, wary, 1, 30)
    assert send(wary, "10.0.0.2")
    assert not send(wary, "10.0.0.2")
    assert not send(wary, "10.0.0.1")
    assert send(wary, "10.0.0.3")


def test_the_pace_is_learned_from_claims(redis_client: redis.Redis, wary: Sessions, leases: Leases) -> None:
    waiting = [session_id(wary.create("Ada")["token"]) for _ in range(6)]
    for session in waiting:
        wary.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1"))
    # As if the first had come two seconds ago.
    redis_client.hincrby(PACE, "at", -2000)
    for session in waiting:
        assert leases.claim(session) is not None
    stored = {name: float(value) for name, value in redis_client.hgetall(PACE).items()}
    # The last claim leaves no line behind, so it says nothing of the pace.
    assert 4 < stored["claims"] <= 5
    assert 1500 < stored["ms"] < 60_000


def test_the_expected_wait_is_that_of_a_refusal(redis_client: redis.Redis, wary: Sessions) -> None:
    assert expected_wait(read_lines(partitions_of(redis_client).all)) == 0
    for _ in range(3):
        assert send(wary, "10.0.0.1")
    set_pace(redis_client, 0.1)
    # As old as a pace that was updated a while ago: both sides weigh it alike.
    redis_client.hincrby(PACE, "at", -2000)
    session = session_id(wary.create("Ada")["token"])
    with pytest.raises(RateLimited) as refused:
        wary.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1"))
    wait = expected_wait(read_lines(partitions_of(redis_client).all))
    assert wait > 20
    assert refused.value.retry_after == pytest.approx(retry_after(wait, MAX_WAIT), rel=0.05)


def test_without_a_pace_the_expected_wait_is_the_queue_delay(redis_client: redis.Redis, wary: Sessions) -> None:
    assert send(wary, "10.0.0.1")
    (session,) = redis_client.zrange(WAITING, 0, -1)
    redis_client.zincrby(WAITING, -7000, str(session))
    redis_client.delete(PACE)
    assert 7 <= expected_wait(read_lines(partitions_of(redis_client).all)) < 60


def test_an_idle_time_does_not_count(redis_client: redis.Redis, wary: Sessions) -> None:
    set_pace(redis_client, 1)
    # An hour ago.
    redis_client.hincrby(PACE, "at", -3_600_000)
    assert sum(send(wary, "10.0.0.1") for _ in range(20)) == 9


def test_without_a_pace_the_longest_wait_decides(redis_client: redis.Redis) -> None:
    wary = Sessions(redis_client, ttl=60, max_pending=2, max_queue_age=MAX_WAIT)
    assert send(wary, "10.0.0.1")
    assert send(wary, "10.0.0.1")
    for session in redis_client.zrange(WAITING, 0, -1):
        redis_client.zincrby(WAITING, -1000 * MAX_WAIT - 1, str(session))
    assert not send(wary, "10.0.0.1")


def test_a_refusal_takes_no_token_and_a_repetition_is_never_refused(redis_client: redis.Redis, wary: Sessions) -> None:
    bucket = (Bucket("chat:rate:test", 3_600_000, 2),)
    session = session_id(wary.create("Ada")["token"])
    wary.requests.accept(session, "m1", "hello", Terms(bucket, "10.0.0.1"))
    set_pace(redis_client, 0.1)
    for _ in range(5):
        with pytest.raises(RateLimited):
            wary.requests.accept(session, "m2", "hello", Terms(bucket, "10.0.0.1"))
    set_pace(redis_client, 100)
    wary.requests.accept(session, "m2", "hello", Terms(bucket, "10.0.0.1"))
    # Nothing is left in the bucket, and the session has as many unanswered messages as it may.
    with pytest.raises(ClientError, match="too_many_pending"):
        wary.requests.accept(session, "m3", "hello", Terms(bucket, "10.0.0.1"))
    for message in ("m1", "m2"):
        assert wary.requests.accept(session, message, "hello", Terms(bucket, "10.0.0.1")).id == message


def test_the_bytes_of_an_address_are_bounded(redis_client: redis.Redis) -> None:
    # 1000 bytes at once, then one a second.
    buckets = (Bucket("chat:rate:test", 10, 100), Bucket("chat:rate:bytes:test", 1000, 1000, counts_bytes=True))
    sessions = Sessions(redis_client, ttl=60, max_pending=20)
    session = session_id(sessions.create("Ada")["token"])
    sessions.requests.accept(session, "m1", "ä" * 300, Terms(buckets))
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            sessions.requests.accept(session, "m2", "x" * 900, Terms(buckets))
    # Refusals have taken nothing, and say when there is room.
    assert 450 < (refused.value.retry_after or 0) <= 500
    sessions.requests.accept(session, "m3", "x" * 390, Terms(buckets))
    redis_client.delete("chat:rate:bytes:test")
    # A message longer than the bucket takes all of it; a repetition takes nothing.
    sessions.requests.accept(session, "m4", "x" * 5000, Terms(buckets))
    assert sessions.requests.accept(session, "m4", "x" * 5000, Terms(buckets)).id == "m4"
    with pytest.raises(RateLimited) as refused:
        sessions.requests.accept(session, "m5", "x" * 900, Terms(buckets))
    assert (refused.value.retry_after or 1000) <= 900
    # A retry stores nothing.
    leases = Leases(redis_client, ttl=60, history_messages=4)
    work = leases.claim(session)
    assert work is not None
    leases.fail(work, "no", go_on=False)
    redis_client.set("chat:rate:bytes:test", (time.time() + 6000) * 1000, px=60_000)
    assert sessions.requests.retry(session, work.message_id, Terms(buckets)).wake


def test_a_session_leaves_its_addresss_line_when_it_is_claimed(
    redis_client: redis.Redis, wary: Sessions, leases: Leases
) -> None:
    session = session_id(wary.create("Ada")["token"])
    wary.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1"))
    assert redis_client.zcard("chat:line:10.0.0.1") == 1
    assert leases.claim(session) is not None
    assert redis_client.zcard("chat:line:10.0.0.1") == 0
