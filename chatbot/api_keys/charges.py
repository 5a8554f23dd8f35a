"""What requests with an API key use: reserved before a request is accepted, settled with its reply, counted once.

A charge names one accepted request: `KEY:SESSION:MESSAGE:NONCE:DAY:MONTH:PROMPT:RESERVED_AT`. It takes four steps:

1. `reserve` takes its tokens from the key's quota and rates, in the key's slot of Redis.
2. The step that accepts the request stores the charge with the session.
3. The step that commits the reply, or records its failure, moves the charge and its usage into an outbox beside the
   ledger. It is atomic, and the fence lets it happen once for each request, however often its reply was begun.
4. A sweep adds what is in the outbox to the keys' usage, and deletes it from the outbox after that. A charge whose
   reservation is gone was added before, so doing this twice does no harm.

So sessions and keys share no step: they may be in different slots of a Redis Cluster, and the outbox is in that of the
sessions. A process that dies between two steps leaves a reservation behind, which `check_old` settles or releases.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import redis

from chatbot.api_keys.keys import Counted, Period
from chatbot.errors import ChatbotError, StoreUnavailable
from chatbot.protocol.charges import charged, parse_charged
from chatbot.store.errors import store_errors
from chatbot.store.keys import API_KEYS, CHARGES_CHECKED, ApiKeyKeys, api_key_keys
from chatbot.store.partitions import Partition, Store, partitions_of
from chatbot.store.scripts import Scripts, Value

#: Milliseconds that the usage of a day or a month is stored after its last change.
KEEP = 400 * 86_400_000
#: Milliseconds from a reservation until it is checked whether its request was accepted. scripts/_admission.lua accepts
#: none whose reservation is older than half of that.
CHECK_AFTER = 600_000
#: Seconds between two such checks, over all processes.
_CHECK_INTERVAL = 60
#: Charges that one sweep adds to their keys' usage.
_BATCH = 5000
#: Reservations that one round trip checks.
_CHECKED_AT_ONCE = 500
#: What failed, in the log, when Redis did.
_STEP = "charges"


class KeyUnknown(ChatbotError):
    """The key is unknown or was revoked."""


@dataclass(frozen=True)
class Limit:
    """A rate or a quota of a key, and what is left of it."""

    counted: Counted
    period: Period
    limit: int
    left: int
    #: Seconds until nothing of it is used.
    reset: float


class OverLimit(ChatbotError):
    """A request exceeds a rate or a quota of its key; nothing was reserved."""

    def __init__(self, limit: Limit, retry_after: float, limits: list[Limit]) -> None:
        super().__init__(f"{limit.counted} a {limit.period}: {limit.left} of {limit.limit} are left")
        self.limit = limit
        #: Seconds.
        self.retry_after = retry_after
        self.limits = limits


class Reservation(NamedTuple):
    """What `reserve` took from a key, and what the key has left."""

    charge: str
    limits: list[Limit]


class Charge(NamedTuple):
    """The parts of a charge."""

    key: str
    session: str
    message: str
    nonce: str
    day: str
    month: str
    prompt: str
    reserved_at: str

    @classmethod
    def parse(cls, text: str) -> Charge:
        return cls(*text.split(":"))

    @property
    def keys(self) -> ApiKeyKeys:
        return api_key_keys(self.key, self.day, self.month)


class Charges:
    """Every method raises `StoreUnavailable` when Redis fails."""

    def __init__(self, store: Store, *, wait_replicas: int = 0) -> None:
        """What is reserved is on `wait_replicas` replicas before `reserve` returns."""
        self._partitions = partitions_of(store)
        self._scripts = Scripts(replicas=wait_replicas)

    def reserve(self, key: str, session: str, message: str, *, prompt: int, completion: int) -> Reservation:
        """Reserves a request of the key `key`, with its tokens, before the session accepts it under the id `message`.

        `prompt` and `completion` are how many tokens these may have; settling corrects them. Raises `KeyUnknown` and
        `OverLimit`.
        """
        now = _now()
        day, month = now.strftime("%Y-%m-%d"), now.strftime("%Y-%m")
        charge = ":".join((key, session, message, secrets.token_hex(8), day, month, str(prompt)))
        status, *rest = self._scripts.run_replicated(
            "reserve",
            self._partitions.home,
            api_key_keys(key, day, month),
            charge=charge,
            tokens=prompt + completion,
        )
        if status == "unknown":
            raise KeyUnknown(key)
        if status == "reserved":
            return Reservation(rest[0], _limits(rest[1], now))
        (counted, period, wait), limits = rest[0], _limits(rest[1], now)
        exceeded = next(limit for limit in limits if (limit.counted, limit.period) == (counted, period))
        raise OverLimit(exceeded, wait / 1000 if period == "minute" else exceeded.reset, limits)

    def release(self, charge: str) -> None:
        """Takes a reservation back whose request was refused or known. Does nothing if its request was accepted."""
        self._release([charge])

    def settle(self, partitions: Sequence[Partition] | None = None) -> int:
        """Adds what is in the outboxes of these partitions, or of all, to the usage of its keys.

        Returns how many charges these held.
        """
        return sum(map(self._settle_outbox, self._partitions.all if partitions is None else partitions))

    def _settle_outbox(self, partition: Partition) -> int:
        outbox, client = partition.shared.outbox, partition.client
        count = cursor = 0
        entries: Any
        while True:
            with store_errors(_STEP):
                cursor, entries = client.hscan(outbox, cursor, count=1000)
            if entries:
                self._settle(list(entries.items()))
                with store_errors(_STEP):
                    client.hdel(outbox, *entries)
            count += len(entries)
            if not cursor or count >= _BATCH:
                return count

    def check_old(self) -> None:
        """Settles or releases reservations that their request left behind; once a minute over all processes."""
        with store_errors(_STEP):
            if not self._home.set(CHARGES_CHECKED, 1, nx=True, ex=_CHECK_INTERVAL):
                return
            keys = self._home.hkeys(API_KEYS)
        for key in keys:
            self.release_all(str(key), CHECK_AFTER)

    def release_all(self, key: str, older_than: int = 0) -> None:
        """Releases the reservations of a key that are `older_than` ms and belong to no accepted request.

        Before `CHECK_AFTER` a request that is being accepted may still come: only when nothing is being accepted.
        """
        with store_errors(_STEP):
            seconds, _ = self._home.time()
            reserved: Any = self._home.hkeys(api_key_keys(key).reserved)
        latest = (seconds + 1) * 1000 - older_than
        old = [charge for charge in reserved if int(charge.rpartition(":")[2]) < latest]
        for first in range(0, len(old), _CHECKED_AT_ONCE):
            self._release(old[first : first + _CHECKED_AT_ONCE])

    def _release(self, charges: list[str]) -> None:
        """Releases those of no accepted request. What is unanswered, or in the outbox, stays."""
        parsed = [(charge, Charge.parse(charge)) for charge in charges]
        partitions = [self._partitions.of(c.session) for _, c in parsed]
        for indexes in self._partitions.by_client(partitions):
            states = self._scripts.run_many(
                "check_charge",
                partitions[indexes[0]],
                [
                    (partitions[index].keys(c.session), (), {"message": c.message, "charge": charge})
                    for index, (charge, c) in ((index, parsed[index]) for index in indexes)
                ],
            )
            # That of a damaged session stays until the session ends.
            none = [charges[index] for index, state in zip(indexes, states, strict=True) if state == "none"]
            self._settle([(charge, charged("released")) for charge in none])

    def _settle(self, entries: Iterable[tuple[str, str]]) -> None:
        calls: list[tuple[ApiKeyKeys, tuple[()], dict[str, Value]]] = []
        for charge, usage in entries:
            calls.append((Charge.parse(charge).keys, (), {"charge": charge, "keep_ms": KEEP, **parse_charged(usage)}))
        if calls:
            for answer in self._scripts.run_many("settle", self._partitions.home, calls):
                if isinstance(answer, StoreUnavailable):
                    raise answer

    @property
    def _home(self) -> redis.Redis:
        return self._partitions.home.client


def _now() -> datetime:
    return datetime.now(UTC)


def _limits(answer: list[list[Any]], now: datetime) -> list[Limit]:
    return [
        Limit(counted, period, limit, left, fills / 1000 if period == "minute" else _reset(period, now))
        for counted, period, limit, left, fills in answer
    ]


def _reset(period: Period, now: datetime) -> float:
    """Seconds until the next day or month begins, in UTC."""
    begins = now.replace(hour=0, minute=0, second=0, microsecond=0)
    following = (
        begins + timedelta(days=1) if period == "day" else (begins.replace(day=1) + timedelta(days=32)).replace(day=1)
    )
    return (following - now).total_seconds()
