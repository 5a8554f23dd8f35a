"""No key of a session outlives it: every step that writes leaves an expiry on each key, whenever the session ends."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

import pytest
import redis

from chatbot.protocol.client_errors import ClientError
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Assignment, LeaseLost, Leases, Progress, SessionEnded
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import LEDGER, SUFFIXES, WAITING, session_keys
from tests.support.ledger import end_session, sweep

Step = Callable[[Sessions, Leases, Ledger, Assignment], object]

STEPS: dict[str, Step] = {
    "accept": lambda sessions, _, __, work: sessions.requests.accept(work.session, "m3", "more"),
    "repeat": lambda sessions, _, __, work: sessions.requests.accept(work.session, "m1", "hello"),
    "retry": lambda sessions, _, __, work: sessions.requests.retry(work.session, "failed"),
    "stop": lambda sessions, _, __, work: sessions.requests.stop(work.session),
    "read": lambda sessions, _, __, work: sessions.read(work.session),
    "snapshot": lambda sessions, _, __, work: sessions.snapshot(work.session, position=0),
    "add_socket": lambda sessions, _, __, work: sessions.sockets.add(work.session, "channel/1", 5),
    "claim": lambda _, leases, __, work: leases.claim(work.session),
    "progress": lambda _, leases, __, work: leases.progress([Progress(work, "text", 0, {"type": "delta"})]),
    "commit": lambda _, leases, __, work: leases.commit(work, "text", "stop", go_on=True),
    "fail": lambda _, leases, __, work: leases.fail(work, "failed", go_on=False),
    "postpone": lambda _, leases, __, work: leases.postpone(work, 5, loading=True),
    "hand_back": lambda _, leases, __, work: leases.hand_back(work),
    "sweep": lambda _, __, ledger, ___: sweep(ledger._partitions.home.client),
}


def without_expiry(client: redis.Redis) -> list[str]:
    return [key for key in client.scan_iter("chat:{*") if client.pttl(key) == -1]


@pytest.fixture
def work(sessions: Sessions, leases: Leases, session: str) -> Assignment:
    """A session with one failed message and two unanswered ones, whose lease a worker that is dead by now holds."""
    sessions.requests.accept(session, "failed", "hello")
    failed = leases.claim(session)
    assert failed is not None
    leases.fail(failed, "failed", go_on=False)
    sessions.requests.accept(session, "m1", "hello")
    sessions.requests.accept(session, "m2", "again")
    work = leases.claim(session)
    assert work is not None
    return work


@pytest.mark.parametrize("gone", [*SUFFIXES, "all"])
@pytest.mark.parametrize("step", STEPS)
def test_no_step_leaves_a_key_without_expiry(
    step: str,
    gone: str,
    sessions: Sessions,
    leases: Leases,
    ledger: Ledger,
    redis_client: redis.Redis,
    work: Assignment,
) -> None:
    keys = session_keys(work.session)
    redis_client.set(keys.lease, "a channel without subscribers", px=5000)
    names = [name for name in SUFFIXES if name != "lease"] if gone == "all" else [gone]
    redis_client.delete(*(getattr(keys, name) for name in names))
    redis_client.zadd(LEDGER, {work.session: 1})
    # A damaged session raises any error, which is not the subject here.
    with contextlib.suppress(Exception):
        STEPS[step](sessions, leases, ledger, work)
    assert without_expiry(redis_client) == []


def test_no_key_stays_of_sessions_that_expire_at_any_moment(redis_client: redis.Redis) -> None:
    sessions, ledger = Sessions(redis_client, ttl=60, max_pending=8), Ledger(redis_client)
    sessions._ttl_ms = sessions.requests._ttl_ms = 15
    leases = Leases(redis_client, ttl=60, history_messages=4, channel=lambda _: "a channel without subscribers")
    leases._ttl_ms = 15
    chance = random.Random(3)
    for _ in range(100):
        session = session_id(sessions.create("Ada")["token"])
        work = None
        for _ in range(12):
            with contextlib.suppress(ClientError, LeaseLost):
                if work is None:
                    sessions.requests.accept(session, None, "hello")
                    work = leases.claim(session)
                redis_client.zadd(LEDGER, {session: 1})
                if work is not None:
                    STEPS[chance.choice([*STEPS])](sessions, leases, ledger, work)
            time.sleep(chance.random() / 300)
        assert without_expiry(redis_client) == []
    time.sleep(0.05)
    # Sessions that were checked often are due later. On a slow machine the steps have emptied the ledger.
    redis_client.zadd(LEDGER, dict.fromkeys([session, *map(str, redis_client.zrange(LEDGER, 0, -1))], 1))
    sweep(redis_client)
    assert redis_client.zcard(LEDGER) == redis_client.zcard(WAITING) == 0
    assert {key.rpartition(":")[2] for key in redis_client.scan_iter("chat:{*")} <= {"lease"}


def test_the_end_of_a_session_is_no_takeover(leases: Leases, redis_client: redis.Redis, work: Assignment) -> None:
    end_session(redis_client, work.session)
    assert leases.progress([Progress(work, "late", 0, {"type": "delta"})]) == ["ended"]
    writes: list[Callable[[], object]] = [
        lambda: leases.commit(work, "late", "stop", go_on=True),
        lambda: leases.fail(work, "late", go_on=True),
        lambda: leases.hand_back(work),
    ]
    for write in writes:
        with pytest.raises(SessionEnded):
            write()
