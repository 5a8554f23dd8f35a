"""The end of a session, on request and by its age, against a real Redis."""

from __future__ import annotations

import time

import pytest
import redis

from chatbot.protocol.client_errors import SessionNotFound
from chatbot.sessions.buckets import Bucket
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import LeaseLost, Leases, Progress
from chatbot.sessions.messages import Sessions
from chatbot.store.keys import LEDGER, WAITING, session_keys
from devtools.harness.deployment import eventually
from devtools.harness.histories import stored_messages


def test_nothing_of_an_ended_session_is_left(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    other = session_id(sessions.create("Bob")["token"])
    for each in (session, other):
        bucket = Bucket(f"chat:{{{each}}}:rate:0", 60_000, 5)
        for number in range(3):
            sessions.accept(each, f"m{number}", "hello", [bucket])
        sessions.add_socket(each, "process/1", 5)
        work = leases.claim(each)
        assert work is not None
        leases.progress([Progress(work, "he", 0, {"type": "delta"})])
    assert sessions.end(session, [f"chat:{{{session}}}:rate:0"])
    assert not [key for key in redis_client.scan_iter() if session in key]
    assert redis_client.zscore(LEDGER, session) is redis_client.zscore(WAITING, session) is None
    assert not sessions.end(session)
    with pytest.raises(SessionNotFound):
        sessions.read(session)
    # Another session is untouched.
    assert len(stored_messages(sessions, other)) == 3
    assert redis_client.exists(session_keys(other).lease)
    assert set(sessions.ids()) == {other}


def test_a_worker_writes_nothing_after_the_end(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.accept(session, "m1", "hello")
    work = leases.claim(session)
    assert work is not None
    sessions.end(session)
    assert leases.progress([Progress(work, "late", 0, {"type": "delta"})]) == ["ended"]
    with pytest.raises(LeaseLost):
        leases.commit(work, "late", "stop", go_on=True)
    with pytest.raises(LeaseLost):
        leases.fail(work, "late", go_on=True)
    with pytest.raises(LeaseLost):
        leases.postpone(work, 1, loading=False)
    with pytest.raises(LeaseLost):
        leases.hand_back(work)
    assert leases.claim(session) is None
    assert not [key for key in redis_client.scan_iter() if session in key]


def test_use_does_not_prolong_a_session_beyond_its_age(redis_client: redis.Redis, leases: Leases) -> None:
    aging = Sessions(redis_client, ttl=60, max_pending=8, max_age=2)
    session = session_id(aging.create("Ada")["token"])
    assert aging.expires_in(session) <= 2
    for _ in range(3):
        time.sleep(0.2)
        aging.accept(session, None, "hello")
        aging.read(session)
    work = leases.claim(session)
    assert work is not None
    leases.commit(work, "hi", "stop", go_on=False)
    lives = [redis_client.pttl(key) for key in redis_client.scan_iter() if session in key]
    assert len(lives) >= 4
    assert all(0 < left <= 1400 for left in lives)
    eventually(lambda: not [key for key in redis_client.scan_iter() if session in key], 5)
    ageless = session_id(Sessions(redis_client, ttl=60, max_pending=8).create("Ada")["token"])
    assert Sessions(redis_client, ttl=60, max_pending=8).expires_in(ageless) > 50
