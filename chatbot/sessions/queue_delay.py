"""The queue delay: how long the longest-waiting message has been ready for a worker.

A message does not wait for a worker while one answers it, while its retry is scheduled, or behind another message of
its session. So neither one user nor one slow reply adds to the queue delay.
"""

from __future__ import annotations

import threading
import time
from collections import deque

import redis

from chatbot.errors import StoreUnavailable
from chatbot.store.client import clock
from chatbot.store.keys import WAITING

#: Seconds for which a reading is reused.
_FRESH = 1.0
#: Seconds of observations from which the workers' pace is estimated, and between two of them.
_WINDOW = 10.0
_STEP = 0.5
#: Bounds of `retry_after`, in seconds.
_SHORTEST, _LONGEST = 1.0, 60.0


class QueueDelay:
    """The queue delay as one process observes it. Safe for many threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._reading = (0, 0.0)
        # Pairs: when it was observed, and when the longest-waiting message became ready.
        self._observed: deque[tuple[float, float]] = deque()

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
        self.observe(delay)
        return count, delay

    def observe(self, delay: float) -> None:
        """Adds a reading, in seconds, to those from which the workers' pace is estimated."""
        now = time.monotonic()
        with self._lock:
            if self._observed and now - self._observed[-1][0] < _STEP:
                return
            self._observed.append((now, now - delay))
            while now - self._observed[0][0] > _WINDOW:
                self._observed.popleft()

    def retry_after(self, delay: float, allowed: float) -> float:
        """Seconds until a message is likely to be accepted, while the queue delay is `delay` instead of `allowed`.

        Workers take messages in order, and no message is added meanwhile. So the delay grows by a second a second, less
        the pace: the seconds of arrivals that the workers take in a second.
        """
        self.observe(delay)
        with self._lock:
            (then, first), (now, last) = self._observed[0], self._observed[-1]
        pace = (last - first) / (now - then) if now - then >= 2 * _STEP else 0.0
        if pace <= 0:
            # The workers stand still, or there are too few observations.
            wait = max(delay - allowed, allowed / 2)
        elif pace <= 1:
            wait = delay / pace
        else:
            wait = min((delay - allowed) / (pace - 1), delay / pace)
        return min(max(wait, _SHORTEST), _LONGEST)
