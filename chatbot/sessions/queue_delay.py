"""The queue delay: how long the longest-waiting message has been ready for a worker.

A message does not wait for a worker while one answers it, while its retry is scheduled, or behind another message of
its session. So neither one user nor one slow reply adds to the queue delay.
"""

from __future__ import annotations

import math
import threading
import time

import redis

from chatbot.errors import StoreUnavailable
from chatbot.store.client import clock
from chatbot.store.keys import PACE, WAITING

#: Seconds for which a reading is reused.
_FRESH = 1.0
#: Milliseconds over which the workers' pace is averaged: `pace_window` of scripts/_pace.lua.
_PACE_WINDOW = 10_000
#: Bounds of `retry_after`, in seconds.
_SHORTEST, _LONGEST = 1.0, 60.0


class QueueDelay:
    """The queue delay as one process observes it. Safe for many threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._reading = (0, 0.0)

    def read(self) -> tuple[int, float]:
        """The number of sessions ready for a worker, and the delay in seconds; at most a second old.

        Raises `StoreUnavailable`.
        """
        with self._lock:
            if time.monotonic() - self._read_at < _FRESH:
                return self._reading
            try:
                now = clock(self._client.time()) * 1000
                with self._client.pipeline(transaction=False) as pipeline:
                    pipeline.zcount(WAITING, "-inf", now)
                    pipeline.zrange(WAITING, 0, 0, withscores=True)
                    count, first = pipeline.execute()
            except redis.RedisError as error:
                raise StoreUnavailable(f"queue delay: {type(error).__name__}: {error}") from error
            delay = max(now - first[0][1], 0.0) / 1000 if first else 0.0
            self._reading, self._read_at = (count, delay), time.monotonic()
        return count, delay


def expected_wait(client: redis.Redis) -> float:
    """Seconds that a new message must expect to wait for a worker, as scripts/_admission.lua computes them.

    While the workers' pace is unknown, that is the queue delay. Raises `StoreUnavailable`.
    """
    try:
        now = clock(client.time()) * 1000
        with client.pipeline(transaction=False) as pipeline:
            pipeline.zcount(WAITING, "-inf", now)
            pipeline.zrange(WAITING, 0, 0, withscores=True)
            pipeline.hmget(PACE, "claims", "ms", "at")
            line, first, stored = pipeline.execute()
    except redis.RedisError as error:
        raise StoreUnavailable(f"expected wait: {type(error).__name__}: {error}") from error
    if not line:
        return 0.0
    claims, milliseconds, at = (float(value or 0) for value in stored)
    weight = math.exp(min(at - now, 0) / _PACE_WINDOW)
    claims, milliseconds = claims * weight, milliseconds * weight + _PACE_WINDOW * (1 - weight)
    if claims < 1:
        return max(now - first[0][1], 0.0) / 1000 if first else 0.0
    return float(line * milliseconds / claims / 1000)


def retry_after(expected: float, allowed: float) -> float:
    """Seconds after which a message may be accepted, now that it would have to wait for `expected` seconds and not for
    the `allowed` ones.

    The line in front of the workers only has to get shorter by a little: what is refused comes back over time.
    """
    return min(max(expected - allowed, expected / 10, _SHORTEST), _LONGEST)
