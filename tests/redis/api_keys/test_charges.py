"""What requests with an API key use: reserved, settled once, given back, against a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from chatbot.api_keys import charges as charging
from chatbot.api_keys import usage
from chatbot.api_keys.charges import Charge, Charges, KeyUnknown, OverLimit
from chatbot.api_keys.keys import ApiKey, ApiKeys, InvalidKey
from chatbot.errors import StoreUnavailable
from chatbot.protocol.charges import charged
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Assignment, LeaseLost, Leases, Progress
from chatbot.sessions.messages import Sessions
from chatbot.store.keys import API_KEYS, CHARGES, CHARGES_CHECKED, api_key_keys, session_keys

USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "cached_tokens": 8}


@pytest.fixture
def keys(redis_client: redis.Redis) -> ApiKeys:
    return ApiKeys(redis_client)


@pytest.fixture
def key(keys: ApiKeys) -> ApiKey:
    return keys.create("shop", {})[0]


@pytest.fixture
def charges(redis_client: redis.Redis) -> Charges:
    return Charges(redis_client)


@pytest.fixture
def today(redis_client: redis.Redis, key: ApiKey) -> Callable[[], usage.KeyUsage]:
    def read() -> usage.KeyUsage:
        return usage.read_days(redis_client, key.id, usage.days(1))[0]

    return read


def ask(charges: Charges, sessions: Sessions, key: ApiKey, session: str, message: str = "m1") -> str:
    charge = charges.reserve(key.id, session, message, prompt=10, completion=100).charge
    assert not sessions.accept(session, message, "hello", charge=charge).repeated
    return charge


def claimed(leases: Leases, session: str) -> Assignment:
    work = leases.claim(session)
    assert work is not None
    return work


def test_what_a_reply_used_replaces_what_was_reserved_for_it(
    sessions: Sessions,
    leases: Leases,
    charges: Charges,
    key: ApiKey,
    session: str,
    today: Callable[[], usage.KeyUsage],
    redis_client: redis.Redis,
) -> None:
    ask(charges, sessions, key, session)
    assert (today().reserved_requests, today().reserved_tokens) == (1, 110)
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    assert today().requests == 0
    assert charges.settle() == 1
    assert today() == usage.KeyUsage(usage.days(1)[0], 1, 0, 30, 12, 8, 0, 0)
    assert usage.read_month(redis_client, key.id, usage.this_month()).prompt_tokens == 30
    assert usage.read_by_name(redis_client)["shop"].completion_tokens == 12
    assert not redis_client.exists(CHARGES, api_key_keys(key.id).reserved, session_keys(session).charges)


def test_a_charge_is_settled_once_however_often_and_late_it_is_applied(
    sessions: Sessions,
    leases: Leases,
    charges: Charges,
    key: ApiKey,
    session: str,
    today: Callable[[], usage.KeyUsage],
    redis_client: redis.Redis,
) -> None:
    ask(charges, sessions, key, session)
    work = claimed(leases, session)
    leases.commit(work, "hi", "stop", go_on=True, usage=USAGE)
    with pytest.raises(LeaseLost):
        leases.commit(work, "hi", "stop", go_on=True, usage=USAGE)
    outbox: Any = redis_client.hgetall(CHARGES)
    charges.settle()
    # A process died between the two steps of a sweep, or one that stood still goes on.
    redis_client.hset(CHARGES, mapping=outbox)
    charges.settle()
    assert (today().requests, today().prompt_tokens, today().reserved_requests) == (1, 30, 0)


def test_a_reply_begun_again_by_another_worker_is_settled_once(
    sessions: Sessions,
    leases: Leases,
    charges: Charges,
    key: ApiKey,
    session: str,
    today: Callable[[], usage.KeyUsage],
    redis_client: redis.Redis,
) -> None:
    ask(charges, sessions, key, session)
    killed = claimed(leases, session)
    leases.progress([Progress(killed, "h", 0, {"type": "delta"})])
    redis_client.delete(session_keys(session).lease)
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    with pytest.raises(LeaseLost):
        leases.commit(killed, "hi", "stop", go_on=True, usage=USAGE)
    charges.settle()
    assert (today().requests, today().prompt_tokens) == (1, 30)


def test_a_failed_request_takes_no_tokens_and_its_retry_is_another_request(
    sessions: Sessions, leases: Leases, charges: Charges, key: ApiKey, session: str, today: Callable[[], usage.KeyUsage]
) -> None:
    ask(charges, sessions, key, session)
    leases.fail(claimed(leases, session), "no", go_on=True)
    again = charges.reserve(key.id, session, "m1", prompt=10, completion=100).charge
    sessions.retry(session, "m1", charge=again)
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    charges.settle()
    assert (today().requests, today().failed, today().prompt_tokens, today().reserved_tokens) == (1, 1, 30, 0)


def test_a_reservation_is_released_unless_its_request_was_accepted(
    sessions: Sessions, leases: Leases, charges: Charges, key: ApiKey, session: str, today: Callable[[], usage.KeyUsage]
) -> None:
    accepted = ask(charges, sessions, key, session)
    repeated = charges.reserve(key.id, session, "m1", prompt=10, completion=100).charge
    assert sessions.accept(session, "m1", "hello", charge=repeated).repeated
    charges.release(repeated)
    charges.release(accepted)
    assert (today().reserved_requests, today().reserved_tokens) == (1, 110)
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    charges.release(accepted)
    charges.settle()
    assert (today().requests, today().reserved_requests, today().reserved_tokens) == (1, 0, 0)


@pytest.mark.parametrize("begun", [True, False])
def test_a_session_that_ends_in_the_middle_of_a_reply_pays_for_the_prompt_and_the_text_so_far(
    begun: bool,
    sessions: Sessions,
    leases: Leases,
    charges: Charges,
    key: ApiKey,
    session: str,
    today: Callable[[], usage.KeyUsage],
) -> None:
    ask(charges, sessions, key, session)
    ask(charges, sessions, key, session, "m2")
    if begun:
        leases.progress([Progress(claimed(leases, session), "x" * 40, 0, {"type": "delta"})])
    sessions.end(session)
    charges.settle()
    assert today() == usage.KeyUsage(today().period, int(begun), 0, 10 * begun, 10 * begun, 0, 0, 0)


def check_old(client: redis.Redis, charges: Charges, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that takes every reservation for old."""
    monkeypatch.setattr(charging, "CHECK_AFTER", -1000)
    client.delete(CHARGES_CHECKED)
    charges.check_old()
    charges.settle()


def test_what_a_killed_web_process_reserved_is_released_and_what_it_had_accepted_stays(
    sessions: Sessions,
    leases: Leases,
    charges: Charges,
    key: ApiKey,
    session: str,
    today: Callable[[], usage.KeyUsage],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(charges, sessions, key, session)
    charges.reserve(key.id, session, "killed", prompt=10, completion=100)
    charges.reserve(key.id, session_id("no session"), "m1", prompt=10, completion=100)
    charges.check_old()
    assert today().reserved_requests == 3
    check_old(redis_client, charges, monkeypatch)
    assert today().reserved_requests == 1
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    check_old(redis_client, charges, monkeypatch)
    assert (today().requests, today().prompt_tokens, today().reserved_requests) == (1, 30, 0)


def test_a_reply_that_an_older_version_committed_counts_with_what_was_reserved(
    sessions: Sessions,
    leases: Leases,
    charges: Charges,
    key: ApiKey,
    session: str,
    today: Callable[[], usage.KeyUsage],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    charge = ask(charges, sessions, key, session)
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    # An older version leaves the charge where it is.
    redis_client.delete(CHARGES)
    redis_client.hset(session_keys(session).charges, "m1", charge)
    check_old(redis_client, charges, monkeypatch)
    assert (today().requests, today().prompt_tokens, today().completion_tokens) == (1, 10, 100)
    assert today().reserved_requests == 0


def test_a_reservation_that_may_have_been_released_is_accepted_no_longer(
    sessions: Sessions, charges: Charges, key: ApiKey, session: str
) -> None:
    charge = charges.reserve(key.id, session, "m1", prompt=10, completion=100).charge
    old = Charge.parse(charge)._replace(reserved_at=str(int(Charge.parse(charge).reserved_at) - 301_000))
    with pytest.raises(StoreUnavailable, match="too old"):
        sessions.accept(session, "m1", "hello", charge=":".join(old))
    assert json.loads(sessions.read(session).messages) == []


@pytest.mark.parametrize(
    ("limits", "refused"),
    [
        ({("requests", "day"): 2}, ("requests", "day", 2, 0)),
        ({("requests", "month"): 2}, ("requests", "month", 2, 0)),
        ({("tokens", "day"): 250}, ("tokens", "day", 250, 30)),
        ({("tokens", "month"): 250, ("requests", "minute"): 2}, ("tokens", "month", 250, 30)),
        ({("requests", "minute"): 2}, ("requests", "minute", 2, 0)),
        ({("tokens", "minute"): 250}, ("tokens", "minute", 250, 30)),
    ],
)
def test_a_key_takes_no_more_than_its_rates_and_quotas(
    limits: dict[tuple[str, str], int],
    refused: tuple[str, str, int, int],
    keys: ApiKeys,
    charges: Charges,
    session: str,
    redis_client: redis.Redis,
) -> None:
    key, _ = keys.create("small", limits)  # type: ignore[arg-type]
    first = charges.reserve(key.id, session, "m1", prompt=10, completion=100)
    assert {(limit.counted, limit.period) for limit in first.limits} == set(limits)
    charges.reserve(key.id, session, "m2", prompt=10, completion=100)
    with pytest.raises(OverLimit) as over:
        charges.reserve(key.id, session, "m3", prompt=10, completion=100)
    limit = over.value.limit
    assert (limit.counted, limit.period, limit.limit) == refused[:3]
    assert abs(limit.left - refused[3]) <= 1
    assert 0 < over.value.retry_after <= {"minute": 60, "day": 86_400, "month": 31 * 86_400}[limit.period]
    assert usage.read_days(redis_client, key.id, usage.days(1))[0].reserved_requests == 2


def test_what_a_reply_did_not_use_goes_back_to_quota_and_rate(
    keys: ApiKeys, charges: Charges, sessions: Sessions, leases: Leases, session: str
) -> None:
    key, _ = keys.create("small", {("tokens", "day"): 150, ("tokens", "minute"): 150})
    ask(charges, sessions, key, session)
    with pytest.raises(OverLimit):
        charges.reserve(key.id, session, "m2", prompt=10, completion=90)
    leases.commit(
        claimed(leases, session),
        "hi",
        "stop",
        go_on=True,
        usage={"prompt_tokens": 8, "completion_tokens": 2, "cached_tokens": 0},
    )
    charges.settle()
    left = {
        limit.period: limit.left for limit in charges.reserve(key.id, session, "m2", prompt=10, completion=90).limits
    }
    assert left["day"] == 40
    assert 40 <= left["minute"] <= 42


def test_the_next_day_has_its_own_quota_and_a_reply_counts_on_the_day_of_its_request(
    keys: ApiKeys,
    charges: Charges,
    sessions: Sessions,
    leases: Leases,
    session: str,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(charging, "_now", lambda: datetime(2026, 12, 31, 23, 59, 50, tzinfo=UTC))
    key, _ = keys.create("small", {("requests", "day"): 1, ("requests", "month"): 1})
    ask(charges, sessions, key, session)
    with pytest.raises(OverLimit) as over:
        charges.reserve(key.id, session, "m2", prompt=10, completion=100)
    assert over.value.retry_after == 10
    monkeypatch.setattr(charging, "_now", lambda: datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC))
    ask(charges, sessions, key, session, "m2")
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    charges.settle()
    old, new = usage.read_days(redis_client, key.id, ["2026-12-31", "2027-01-01"])
    assert (old.requests, old.reserved_requests, new.requests, new.reserved_requests) == (1, 0, 0, 1)
    assert usage.read_month(redis_client, key.id, "2026-12").requests == 1


def test_a_key_is_stored_as_its_hash_alone(keys: ApiKeys, redis_client: redis.Redis) -> None:
    key, secret = keys.create("shop", {("requests", "day"): 5}, ("small",))
    stored = [redis_client.hgetall(name) for name in (api_key_keys(key.id).facts, API_KEYS)]
    assert secret.removeprefix("sk-chat-") not in str(stored)
    found = keys.find(secret)
    assert found == key
    assert (key.may_use("small"), key.may_use("large")) == (True, False)
    assert keys.find(secret + "x") is None


def test_a_revoked_key_is_refused_at_once_and_its_requests_in_progress_are_settled(
    keys: ApiKeys, charges: Charges, sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    key, secret = keys.create("shop", {})
    ask(charges, sessions, key, session)
    revoked = keys.revoke("shop")
    assert revoked is not None
    assert revoked.id == key.id
    assert keys.find(secret) is None
    assert keys.revoke("shop") is None
    with pytest.raises(KeyUnknown):
        charges.reserve(key.id, session, "m2", prompt=1, completion=1)
    leases.commit(claimed(leases, session), "hi", "stop", go_on=True, usage=USAGE)
    charges.settle()
    keys.create("shop", {})
    assert usage.read_by_name(redis_client)["shop"].requests == 1
    assert sorted(bool(each.revoked) for each in keys.all()) == [False, True]


@pytest.mark.parametrize(("name", "limit"), [("", 1), ("a\nb", 1), ("x" * 65, 1), ("shop", 0), ("shop", 10**13)])
def test_a_key_without_sense_is_refused(keys: ApiKeys, name: str, limit: int) -> None:
    with pytest.raises(InvalidKey):
        keys.create(name, {("requests", "day"): limit})
    assert list(keys.all()) == []


def test_two_valid_keys_have_no_name_in_common(keys: ApiKeys, key: ApiKey) -> None:
    with pytest.raises(InvalidKey, match="exists"):
        keys.create(key.name, {})


def test_a_charge_that_was_released_is_not_settled_afterwards(
    charges: Charges, key: ApiKey, session: str, redis_client: redis.Redis, today: Callable[[], usage.KeyUsage]
) -> None:
    charge = charges.reserve(key.id, session, "m1", prompt=10, completion=100).charge
    charges.release(charge)
    redis_client.hset(CHARGES, charge, charged("replied", USAGE))
    charges.settle()
    assert today() == usage.KeyUsage(today().period)
