"""Calls in progress on each model server, as worker processes publish them for each other: one hash in Redis."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import redis

from chatbot.store.errors import store_errors
from chatbot.store.keys import MODEL_CALLS


def exchange_calls(client: redis.Redis, process: str, number: int, calls: Mapping[str, int]) -> dict[str, str]:
    """Publishes the calls of this process by server; returns what each process has published, for `calls_of`.

    `number` differs from that of the last time: so others see that the process lives. Raises `StoreUnavailable`.
    """
    report = " ".join([str(number), *(f"{server}:{count}" for server, count in calls.items() if count)])
    with store_errors("exchange_calls"), client.pipeline(transaction=False) as pipeline:
        pipeline.hset(MODEL_CALLS, process, report)
        pipeline.hgetall(MODEL_CALLS)
        found: Any = pipeline.execute()[1]
    return dict(found)


def calls_of(published: str) -> dict[str, int]:
    """Calls by server; text of another form is of another version, and counts as none."""
    pairs = (part.partition(":") for part in published.split()[1:])
    return {server: int(count) for server, _, count in pairs if count.isdecimal()}


def forget_calls(client: redis.Redis, processes: Collection[str]) -> None:
    """Removes what processes published that have ended. Raises `StoreUnavailable`."""
    if processes:
        with store_errors("forget_calls"):
            client.hdel(MODEL_CALLS, *processes)
