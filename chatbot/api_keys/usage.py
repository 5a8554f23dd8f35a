"""The usage of API keys: what they used on each day and in each month, and ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import redis

from chatbot.store.errors import store_errors
from chatbot.store.keys import API_KEYS, api_key_keys


@dataclass(frozen=True)
class KeyUsage:
    """Sums of one key in one period. `reserved_…` belong to requests that are not settled."""

    period: str
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reserved_requests: int = 0
    reserved_tokens: int = 0

    def plus(self, other: KeyUsage) -> KeyUsage:
        return KeyUsage(self.period, *(getattr(self, name) + getattr(other, name) for name in _FIELDS))


_FIELDS = tuple(name for name in KeyUsage.__dataclass_fields__ if name != "period")


def days(count: int) -> list[str]:
    """The last `count` days in UTC, today first."""
    today = datetime.now(UTC).date()
    return [(today - timedelta(days=back)).isoformat() for back in range(count)]


def this_month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")


def read_days(client: redis.Redis, key: str, wanted: Sequence[str]) -> list[KeyUsage]:
    """The usage of a key on each of the days. Raises `StoreUnavailable`."""
    return _read(client, [(day, api_key_keys(key, day=day).day) for day in wanted])


def read_month(client: redis.Redis, key: str, month: str) -> KeyUsage:
    return _read(client, [(month, api_key_keys(key, month=month).month)])[0]


def read_by_name(client: redis.Redis) -> dict[str, KeyUsage]:
    """What the keys of each name have used since they were created. Raises `StoreUnavailable`."""
    with store_errors("usage"):
        names = {str(id_): str(name) for id_, name in client.hgetall(API_KEYS).items()}
    totals = _read(client, [("ever", api_key_keys(key).total) for key in names])
    found: dict[str, KeyUsage] = {}
    for name, used in zip(names.values(), totals, strict=True):
        # A revoked key counts with the one that replaced it.
        found[name] = used if name not in found else found[name].plus(used)
    return found


def _read(client: redis.Redis, hashes: Sequence[tuple[str, str]]) -> list[KeyUsage]:
    with store_errors("usage"), client.pipeline(transaction=False) as pipeline:
        for _, name in hashes:
            pipeline.hmget(name, _FIELDS)
        found = pipeline.execute()
    return [
        KeyUsage(period, *(int(value or 0) for value in values))
        for (period, _), values in zip(hashes, found, strict=True)
    ]
