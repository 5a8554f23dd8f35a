"""The end of a session, on request and by its age, against a real Redis."""

from __future__ import annotations

import time

import pytest
import redis

from chatbot.errors import DamagedSession
from chatbot.protocol.client_errors import SessionNotFound
from chatbot.sessions.buckets import Bucket
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import LeaseLost, Leases, Progress
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import LEDGER, LINE, METRICS, PACE, SUFFIXES, WAITING, events_channel, session_keys
from devtools.harness.histories import stored_messages
from tests.support.subscription import Subscription


def test_nothing_of_an_ended_session_is_left(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    other = session_id(sessions.create("Bob")["token"])
    for each in (session, other):
        bucket = Bucket(f"chat:{{{each}}}:rate:0", 60_000, 5)
        for number in range(3):
            sessions.requests.accept(each, f"m{number}", "hello", Terms([bucket]))
        sessions.sockets.add(each, "process/1", 5)
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
    assert {session for session, _ in sessions.find_all()} == {other}


def test_a_worker_writes_nothing_after_the_end(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    sessions.requests.accept(session, "m1", "hello")
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


def contents(client: redis.Redis, but: str) -> dict[str, object]:
    """What Redis holds, without the keys of the session `but` and its places in sorted sets."""
    found: dict[str, object] = {}
    for key in client.scan_iter():
        if but in key:
            continue
        if client.type(key) == "zset":
            members = {str(entry[0]): entry[1] for entry in client.zrange(key, 0, -1, withscores=True)}
            members.pop(but, None)
            if members:
                found[key] = members
        else:
            found[key] = client.type(key), client.object("encoding", key), client.memory_usage(key), client.exists(key)
            if client.type(key) == "hash":
                found[key] = client.hgetall(key)
    return found


#: What is done to a key of a session.
DAMAGE = {
    **{name: name for name in SUFFIXES},
    "number": "document",
    "nothing": "",
}


def damage(client: redis.Redis, session: str, kind: str) -> None:
    name = DAMAGE[kind]
    if kind == "number":
        client.json().set(session_keys(session).document, "$", 5)
    elif name:
        key = getattr(session_keys(session), name)
        client.delete(key)
        client.sadd(key, "x")


@pytest.fixture
def busy(sessions: Sessions, leases: Leases, redis_client: redis.Redis) -> list[str]:
    """Two sessions of one address that a worker has claimed once and that wait again, with all that sessions have."""
    found = [session_id(sessions.create(name)["token"]) for name in ("Ada", "Bob", "Cid")]
    for session in found:
        terms = Terms([Bucket(f"chat:{{{session}}}:rate:0", 60_000, 5)], "10.0.0.1")
        sessions.requests.accept(session, "m1", "hello", terms)
    for session in found[:2]:
        sessions.sockets.add(session, "process/1", 5)
        work = leases.claim(session)
        assert work is not None
        leases.progress([Progress(work, "he", 0, {"type": "delta"})])
        leases.fail(work, "no", go_on=False)
        sessions.requests.accept(session, "m2", "hello", Terms(address="10.0.0.1"))
    redis_client.hset(METRICS, "replies", 3)
    assert redis_client.zcard(f"{LINE}10.0.0.1") == 3
    assert redis_client.exists(PACE)
    return found[:2]


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_end_leaves_shared_keys_and_other_sessions_untouched(
    kind: str, sessions: Sessions, busy: list[str], redis_client: redis.Redis
) -> None:
    session = busy[0]
    damage(redis_client, session, kind)
    before = contents(redis_client, session)
    assert sessions.end(session, [f"chat:{{{session}}}:rate:0"])
    assert contents(redis_client, session) == before
    assert not [key for key in redis_client.scan_iter() if session in key]
    assert redis_client.zscore(LEDGER, session) is redis_client.zscore(WAITING, session) is None
    # Where the key is damaged that names the line, the session leaves it as one whose claim is lost.
    assert (redis_client.zscore(f"{LINE}10.0.0.1", session) is None) == (kind != "state")


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("wrong_type", [True, False])
def test_giving_up_a_damaged_session_leaves_shared_keys_and_other_sessions_untouched(
    kind: str, wrong_type: bool, leases: Leases, busy: list[str], redis_client: redis.Redis
) -> None:
    session = busy[0]
    damage(redis_client, session, kind)
    before = contents(redis_client, session)
    own = {key for key in redis_client.scan_iter() if session in key}
    with Subscription(redis_client, events_channel(session)) as listening:
        found = DamagedSession("", wrong_type=wrong_type)
        attempts = 1 if kind == "damaged" else 3
        assert [leases.give_up(session, found) for _ in range(attempts)] == [False] * (attempts - 1) + [True]
        event = listening.next()
    assert contents(redis_client, session) == before
    assert redis_client.zscore(LEDGER, session) is redis_client.zscore(WAITING, session) is None
    assert (redis_client.zscore(f"{LINE}10.0.0.1", session) is None) == (kind != "state")
    left = {key for key in redis_client.scan_iter() if session in key}
    keys = session_keys(session)
    if wrong_type or kind in ("pending", "state"):
        # The rates' keys expire.
        assert left == {f"chat:{{{session}}}:rate:0"}
        assert event.startswith("9007199254740992:\n")
    else:
        assert left == own - {keys.lease, keys.damaged}
        assert '"id":"m2"' in event
        assert event.startswith(f"{redis_client.hget(keys.state, 'events')!s}:\n")


def test_use_does_not_prolong_a_session_beyond_its_age(redis_client: redis.Redis, leases: Leases) -> None:
    aging = Sessions(redis_client, ttl=600, max_pending=8, max_age=60)
    session = session_id(aging.create("Ada")["token"])
    assert aging.expires_in(session) <= 60
    for _ in range(3):
        time.sleep(0.1)
        aging.requests.accept(session, None, "hello")
        aging.read(session)
    work = leases.claim(session)
    assert work is not None
    leases.commit(work, "hi", "stop", go_on=False)
    lives = [redis_client.pttl(key) for key in redis_client.scan_iter() if session in key]
    assert len(lives) >= 4
    assert all(0 < left <= 59_700 for left in lives)
    ageless = session_id(Sessions(redis_client, ttl=60, max_pending=8).create("Ada")["token"])
    assert Sessions(redis_client, ttl=60, max_pending=8).expires_in(ageless) > 50
