"""The rules that the simulation has are those of the scripts: both get the same random inputs, on a real Redis."""

from __future__ import annotations

import random
from importlib.resources import files

import pytest
import redis

from bench.scale.rules import Pace, expected_wait, published_again, short_wait, unclaimed_wait
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import FIRST_WAIT, LONGEST_WAIT, Ledger
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import clock
from chatbot.store.keys import LEDGER, LINE, PACE, SWEPT, WAITING, session_keys
from chatbot.store.script_texts import ARGUMENTS, source

ADDRESS = f"{LINE}10.0.0.1"
#: The answer of _line.lua, and what it was computed from; the session's id says whether there are other partitions.
_TAIL = """
local short = session == 'several' and short_wait()
local wait, refused = expected_wait(session == 'several')
local claims, ms = pace_sums(now())
local own = redis.call('ZCARD', KEYS[#KEYS])
return {
  now(), wait and string.format('%.9f', wait) or '', refused and 1 or 0, ready_sessions(), own, tostring(queue_delay()),
  short and string.format('%.9f', short) or ''
}
"""


def test_admission_decides_as_its_script_does(redis_client: redis.Redis) -> None:
    accept = (files("chatbot.sessions") / "scripts" / "accept.lua").read_text("utf-8")
    script = redis_client.register_script(source("accept").removesuffix(accept) + _TAIL)
    chance, refusals, unknown, asked = random.Random(7), 0, 0, 0
    for _ in range(300):
        redis_client.delete(WAITING, PACE, ADDRESS)
        seconds, microseconds = redis_client.time()
        now = seconds * 1000 + microseconds // 1000
        line = chance.choice((0, 1, 2, 30, 120))
        ready = {f"s{n}": now - chance.randrange(1, 20_000) for n in range(line)}
        if line:
            redis_client.zadd(WAITING, ready)
        redis_client.zadd(WAITING, {"held": now + 60_000})
        own = dict(chance.sample(sorted(ready.items()), chance.randint(0, line)))
        if own:
            redis_client.zadd(ADDRESS, own)
        pace = Pace(
            chance.choice((0.0, 0.9, chance.uniform(1, 50))), chance.uniform(1, 20_000), now - chance.randrange(9000)
        )
        redis_client.hset(PACE, mapping={"claims": pace.claims, "ms": pace.ms, "at": pace.at})
        allowed = chance.choice((0, 500, 6000, 60_000))
        # Of other partitions: ready sessions, claims, claims in a millisecond, and their queue delay.
        others = chance.choice(((0, 0.0, 0.0, 0), (0, 3.0, 0.004, 0), (chance.randrange(100), 20.0, 0.02, 5000)))
        several = chance.random() < 0.5
        if several:
            redis_client.hset(PACE, "others", ":".join(map(str, (*others, now - 900))))
        values = dict.fromkeys(ARGUMENTS["accept"], "")
        values |= {"max_wait_ms": str(allowed), "session": "several" if several else "alone"}
        answer = script(keys=(*session_keys("s"), ADDRESS), args=list(values.values()))
        at, wait, refused, ready_sessions, of_address, delay, short = answer
        claims, ms = pace.sums(at)
        more, more_claims, rate, more_delay = others if several else (0, 0.0, 0.0, 0)
        waited = max(float(delay), more_delay)
        expected = expected_wait(line + more, of_address, claims + more_claims, claims / ms + rate, allowed, waited)
        assert ready_sessions == line
        # What entered the line of an address longer ago than the queue delay was claimed, perhaps elsewhere.
        assert of_address <= len(own) if several else of_address == len(own)
        assert bool(refused) == expected[1]
        assert (float(wait) if wait else None) == (expected[0] if expected[0] is None else pytest.approx(expected[0]))
        if several:
            alone = short_wait(line + more, claims + more_claims, claims / ms + rate, allowed, waited)
            assert (float(short) if short else None) == (None if alone is None else pytest.approx(alone))
            asked += alone is None
        refusals += refused
        unknown += not wait
    assert refusals > 30
    assert unknown > 10
    assert 30 < asked < 120


def test_the_pace_follows_claims_as_in_the_script(redis_client: redis.Redis, leases: Leases) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=2)
    waiting = [session_id(sessions.create("Ada")["token"]) for _ in range(8)]
    for session in waiting:
        sessions.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1"))
    for session in waiting[:-1]:
        redis_client.hincrby(PACE, "at", -700)
        before = _pace(redis_client)
        assert leases.claim(session) is not None
        after = _pace(redis_client)
        before.claimed(after.at)
        assert [before.claims, before.ms] == pytest.approx([after.claims, after.ms])
    # The last one leaves no line behind.
    assert leases.claim(waiting[-1]) is not None
    assert _pace(redis_client) == after


def _pace(client: redis.Redis) -> Pace:
    stored = client.hgetall(PACE)
    return Pace(float(stored.get("claims", 0)), float(stored.get("ms", 0)), float(stored["at"]))


def test_owed_and_unclaimed_sessions_are_checked_as_in_the_script(redis_client: redis.Redis, leases: Leases) -> None:
    sessions, ledger = Sessions(redis_client, ttl=60, max_pending=2), Ledger(redis_client)
    owed, unclaimed = (session_id(sessions.create("Ada")["token"]) for _ in range(2))
    for session in (owed, unclaimed):
        sessions.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1"))
    work = leases.claim(owed)
    assert work is not None
    leases.postpone(work, 0.0, loading=False)
    for checks in range(1, 17):
        redis_client.delete(SWEPT)
        redis_client.zadd(LEDGER, dict.fromkeys((owed, unclaimed), 0))
        began = clock(redis_client.time())
        found = ledger.overdue()
        ended = clock(redis_client.time())
        assert found is not None
        assert (found.owed, found.queued) == (([owed], []) if published_again(checks) else ([], [owed]))
        assert found.unclaimed == [unclaimed]
        checked = float(redis_client.zscore(LEDGER, unclaimed) or 0) - unclaimed_wait(checks, FIRST_WAIT, LONGEST_WAIT)
        # In whole ms.
        assert began * 1000 - 1 <= checked <= ended * 1000 + 1
