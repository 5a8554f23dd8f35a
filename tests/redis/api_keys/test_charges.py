"""What requests with an API key use: reserved, settled once, given back, against a real Redis."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import API_KEYS, CHARGES, CHARGES_CHECKED, api_key_keys, session_keys
from tests.support.days import begin_within_a_day

USAGE = {"prompt_tokens": 30, "completion_tokens": 12, "cached_tokens": 8}


@dataclass
class Shop:
    """A program with an API key, and one of its sessions."""

    client: redis.Redis
    sessions: Sessions
    leases: Leases
    charges: Charges
    keys: ApiKeys
    session: str
    key: ApiKey

    def reserve(self, message: str = "m1", *, session: str = "", completion: int = 100) -> charging.Reservation:
        return self.charges.reserve(self.key.id, session or self.session, message, prompt=10, completion=completion)

    def ask(self, message: str = "m1") -> str:
        """Sends a message with a charge, and returns the charge."""
        charge = self.reserve(message).charge
        assert not self.sessions.requests.accept(self.session, message, "hello", Terms(charge=charge)).repeated
        return charge

    def claimed(self) -> Assignment:
        work = self.leases.claim(self.session)
        assert work is not None
        return work

    def reply(self, work: Assignment | None = None) -> None:
        self.leases.commit(work or self.claimed(), "hi", "stop", go_on=True, usage=USAGE)

    def today(self) -> usage.KeyUsage:
        return usage.read_days(self.client, self.key.id, usage.days(1))[0]


@pytest.fixture(autouse=True)
def within_a_day() -> None:
    begin_within_a_day(10)


@pytest.fixture
def keys(redis_client: redis.Redis) -> ApiKeys:
    return ApiKeys(redis_client)


@pytest.fixture
def shop(redis_client: redis.Redis, sessions: Sessions, leases: Leases, keys: ApiKeys, session: str) -> Shop:
    key, _ = keys.create("shop", {})
    return Shop(redis_client, sessions, leases, Charges(redis_client), keys, session, key)


def test_what_a_reply_used_replaces_what_was_reserved_for_it(shop: Shop) -> None:
    shop.ask()
    assert (shop.today().reserved_requests, shop.today().reserved_tokens) == (1, 110)
    shop.reply()
    assert shop.today().requests == 0
    assert shop.charges.settle() == 1
    assert shop.today() == usage.KeyUsage(usage.days(1)[0], 1, 0, 30, 12, 8, 0, 0)
    assert usage.read_month(shop.client, shop.key.id, usage.this_month()).prompt_tokens == 30
    assert usage.read_by_name(shop.client)["shop"].completion_tokens == 12
    assert not shop.client.exists(CHARGES, api_key_keys(shop.key.id).reserved, session_keys(shop.session).charges)


def test_a_charge_is_settled_once_however_often_and_late_it_is_applied(shop: Shop) -> None:
    shop.ask()
    work = shop.claimed()
    shop.reply(work)
    with pytest.raises(LeaseLost):
        shop.reply(work)
    outbox: Any = shop.client.hgetall(CHARGES)
    shop.charges.settle()
    # A process died between the two steps of a sweep, or one that stood still goes on.
    shop.client.hset(CHARGES, mapping=outbox)
    shop.charges.settle()
    assert (shop.today().requests, shop.today().prompt_tokens, shop.today().reserved_requests) == (1, 30, 0)


def test_a_reply_begun_again_by_another_worker_is_settled_once(shop: Shop) -> None:
    shop.ask()
    killed = shop.claimed()
    shop.leases.progress([Progress(killed, "h", 0, {"type": "delta"})])
    shop.client.delete(session_keys(shop.session).lease)
    shop.reply()
    with pytest.raises(LeaseLost):
        shop.reply(killed)
    shop.charges.settle()
    assert (shop.today().requests, shop.today().prompt_tokens) == (1, 30)


def test_a_failed_request_takes_no_tokens_and_its_retry_is_another_request(shop: Shop) -> None:
    shop.ask()
    shop.leases.fail(shop.claimed(), "no", go_on=True)
    again = shop.reserve().charge
    shop.sessions.requests.retry(shop.session, "m1", Terms(charge=again))
    shop.reply()
    shop.charges.settle()
    assert (shop.today().requests, shop.today().failed, shop.today().prompt_tokens, shop.today().reserved_tokens) == (
        1,
        1,
        30,
        0,
    )


def test_a_reservation_is_released_unless_its_request_was_accepted(shop: Shop) -> None:
    accepted = shop.ask()
    repeated = shop.reserve().charge
    assert shop.sessions.requests.accept(shop.session, "m1", "hello", Terms(charge=repeated)).repeated
    shop.charges.release(repeated)
    shop.charges.release(accepted)
    assert (shop.today().reserved_requests, shop.today().reserved_tokens) == (1, 110)
    shop.reply()
    shop.charges.release(accepted)
    shop.charges.settle()
    assert (shop.today().requests, shop.today().reserved_requests, shop.today().reserved_tokens) == (1, 0, 0)


@pytest.mark.parametrize("begun", [True, False])
def test_a_session_that_ends_in_the_middle_of_a_reply_pays_for_the_prompt_and_the_text_so_far(
    begun: bool, shop: Shop
) -> None:
    shop.ask()
    shop.ask("m2")
    if begun:
        shop.leases.progress([Progress(shop.claimed(), "x" * 40, 0, {"type": "delta"})])
    shop.sessions.end(shop.session)
    shop.charges.settle()
    assert shop.today() == usage.KeyUsage(shop.today().period, int(begun), 0, 10 * begun, 10 * begun, 0, 0, 0)


def check_old(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that takes every reservation for old."""
    monkeypatch.setattr(charging, "CHECK_AFTER", -1000)
    shop.client.delete(CHARGES_CHECKED)
    shop.charges.check_old()
    shop.charges.settle()


def test_what_a_killed_web_process_reserved_is_released_and_what_it_had_accepted_stays(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.ask()
    shop.reserve("killed")
    shop.reserve(session=session_id("no session"))
    shop.charges.check_old()
    assert shop.today().reserved_requests == 3
    check_old(shop, monkeypatch)
    assert shop.today().reserved_requests == 1
    shop.reply()
    check_old(shop, monkeypatch)
    assert (shop.today().requests, shop.today().prompt_tokens, shop.today().reserved_requests) == (1, 30, 0)


def test_a_reply_that_an_older_version_committed_counts_with_what_was_reserved(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge = shop.ask()
    shop.reply()
    # An older version leaves the charge where it is.
    shop.client.delete(CHARGES)
    shop.client.hset(session_keys(shop.session).charges, "m1", charge)
    check_old(shop, monkeypatch)
    assert (shop.today().requests, shop.today().prompt_tokens, shop.today().completion_tokens) == (1, 10, 100)
    assert shop.today().reserved_requests == 0


def test_a_reservation_that_may_have_been_released_is_accepted_no_longer(shop: Shop) -> None:
    charge = shop.reserve().charge
    old = Charge.parse(charge)._replace(reserved_at=str(int(Charge.parse(charge).reserved_at) - 301_000))
    with pytest.raises(StoreUnavailable, match="too old"):
        shop.sessions.requests.accept(shop.session, "m1", "hello", Terms(charge=":".join(old)))
    assert json.loads(shop.sessions.read(shop.session).messages) == []


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
    limits: dict[tuple[str, str], int], refused: tuple[str, str, int, int], shop: Shop
) -> None:
    shop.key, _ = shop.keys.create("small", limits)  # type: ignore[arg-type]
    first = shop.reserve()
    assert {(limit.counted, limit.period) for limit in first.limits} == set(limits)
    shop.reserve("m2")
    with pytest.raises(OverLimit) as over:
        shop.reserve("m3")
    limit = over.value.limit
    assert (limit.counted, limit.period, limit.limit) == refused[:3]
    assert abs(limit.left - refused[3]) <= 1
    assert 0 < over.value.retry_after <= {"minute": 60, "day": 86_400, "month": 31 * 86_400}[limit.period]
    assert usage.read_days(shop.client, shop.key.id, usage.days(1))[0].reserved_requests == 2


def test_what_a_reply_did_not_use_goes_back_to_quota_and_rate(shop: Shop) -> None:
    shop.key, _ = shop.keys.create("small", {("tokens", "day"): 150, ("tokens", "minute"): 150})
    shop.ask()
    with pytest.raises(OverLimit):
        shop.reserve("m2", completion=90)
    shop.leases.commit(
        shop.claimed(),
        "hi",
        "stop",
        go_on=True,
        usage={"prompt_tokens": 8, "completion_tokens": 2, "cached_tokens": 0},
    )
    shop.charges.settle()
    left = {limit.period: limit.left for limit in shop.reserve("m2", completion=90).limits}
    assert left["day"] == 40
    assert 40 <= left["minute"] <= 42


def test_the_next_day_has_its_own_quota_and_a_reply_counts_on_the_day_of_its_request(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charging, "_now", lambda: datetime(2026, 12, 31, 23, 59, 50, tzinfo=UTC))
    shop.key, _ = shop.keys.create("small", {("requests", "day"): 1, ("requests", "month"): 1})
    shop.ask()
    with pytest.raises(OverLimit) as over:
        shop.reserve("m2")
    assert over.value.retry_after == 10
    monkeypatch.setattr(charging, "_now", lambda: datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC))
    shop.ask("m2")
    shop.reply()
    shop.charges.settle()
    old, new = usage.read_days(shop.client, shop.key.id, ["2026-12-31", "2027-01-01"])
    assert (old.requests, old.reserved_requests, new.requests, new.reserved_requests) == (1, 0, 0, 1)
    assert usage.read_month(shop.client, shop.key.id, "2026-12").requests == 1


def test_a_key_is_stored_as_its_hash_alone(keys: ApiKeys, redis_client: redis.Redis) -> None:
    key, secret = keys.create("shop", {("requests", "day"): 5}, ("small",))
    stored = [redis_client.hgetall(name) for name in (api_key_keys(key.id).facts, API_KEYS)]
    assert secret.removeprefix("sk-chat-") not in str(stored)
    found = keys.find(secret)
    assert found == key
    assert key.models == ("small",)
    assert keys.find(secret + "x") is None


def test_a_revoked_key_is_refused_at_once_and_its_requests_in_progress_are_settled(shop: Shop) -> None:
    shop.key, secret = shop.keys.create("store", {})
    shop.ask()
    revoked = shop.keys.revoke("store")
    assert revoked is not None
    assert revoked.id == shop.key.id
    assert shop.keys.find(secret) is None
    assert shop.keys.revoke("store") is None
    with pytest.raises(KeyUnknown):
        shop.reserve("m2")
    shop.reply()
    shop.charges.settle()
    shop.keys.create("store", {})
    assert usage.read_by_name(shop.client)["store"].requests == 1
    assert sorted(bool(each.revoked) for each in shop.keys.all() if each.name == "store") == [False, True]


@pytest.mark.parametrize(("name", "limit"), [("", 1), ("a\nb", 1), ("x" * 65, 1), ("shop", 0), ("shop", 10**13)])
def test_a_key_without_sense_is_refused(keys: ApiKeys, name: str, limit: int) -> None:
    with pytest.raises(InvalidKey):
        keys.create(name, {("requests", "day"): limit})
    assert list(keys.all()) == []


def test_two_valid_keys_have_no_name_in_common(shop: Shop) -> None:
    with pytest.raises(InvalidKey, match="exists"):
        shop.keys.create(shop.key.name, {})


def test_a_charge_that_was_released_is_not_settled_afterwards(shop: Shop) -> None:
    charge = shop.reserve().charge
    shop.charges.release(charge)
    shop.client.hset(CHARGES, charge, charged("replied", USAGE))
    shop.charges.settle()
    assert shop.today() == usage.KeyUsage(shop.today().period)
