"""What waits for a reply: how many sessions, and since when."""

from __future__ import annotations

import redis

from chatbot.errors import StoreUnavailable
from chatbot.store.client import clock
from chatbot.store.keys import LEDGER, UNANSWERED


def oldest_unanswered(client: redis.Redis) -> float:
    """Seconds since which the oldest unanswered message has waited, by Redis' clock; 0 when none waits.

    Raises `StoreUnavailable`.
    """
    try:
        with client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(UNANSWERED, 0, 0, withscores=True)
            pipeline.time()
            oldest, time = pipeline.execute()
    except redis.RedisError as error:
        raise StoreUnavailable(f"oldest_unanswered: {type(error).__name__}: {error}") from error
    if not oldest:
        return 0.0
    return float(max(clock(time) - oldest[0][1] / 1000, 0.0))


def ledger_size(client: redis.Redis) -> int:
    """Sessions with unanswered messages. Raises `StoreUnavailable`."""
    try:
        return int(client.zcard(LEDGER))
    except redis.RedisError as error:
        raise StoreUnavailable(f"ledger_size: {type(error).__name__}: {error}") from error
