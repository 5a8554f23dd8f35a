"""How far behind the workers are: how long the message has waited that has waited longest for one.

A message that a worker is at does not wait, however long its reply takes; nor does one whose model call is put off, nor
one that stands behind others of its own session. So one person, or one slow reply, is no backlog.
"""

from __future__ import annotations

import threading
import time
from collections import deque

import redis

from chatbot.errors import StoreUnavailable
from chatbot.store.client import clock
from chatbot.store.keys import WAITING

#: Seconds for which what Redis said is repeated.
_FRESH = 1.0
#: Seconds of the past from which the pace of the workers is told, and between two looks at it.
_PAST = 10.0
_STEP = 0.5
#: Seconds that a refused client is told to wait, at least and at most.
_SHORTEST, _LONGEST = 1.0, 60.0


class Backlog:
    """The backlog as one process sees it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._found = (0, 0.0)
        # Pairs of a moment, and since when the message had waited then that had waited longest.
        self._seen: deque[tuple[float, float]] = deque()

    def read(self) -> tuple[int, float]:
        """Sessions that wait for a worker, and the seconds for which the first of them has; at most a second old.

        Raises `StoreUnavailable`.
        """
        with self._lock:
            if time.monotonic() - self._looked < _FRESH:
                return self._found
            try:
                now = clock(self._client.time()) * 1000
                with self._client.pipeline(transaction=False) as pipeline:
                    pipeline.zcount(WAITING, "-inf", now)
                    pipeline.zrange(WAITING, 0, 0, withscores=True)
                    count, first = pipeline.execute()
            except redis.RedisError as error:
                raise StoreUnavailable(f"backlog: {type(error).__name__}: {error}") from error
            age = max(now - first[0][1], 0.0) / 1000 if first else 0.0
            self._found, self._looked = (count, age), time.monotonic()
        self.observe(age)
        return count, age

    def observe(self, age: float) -> None:
        """Learns from a look at the queue that its first message has waited for `age` seconds."""
        now = time.monotonic()
        with self._lock:
            if self._seen and now - self._seen[-1][0] < _STEP:
                return
            self._seen.append((now, now - age))
            while now - self._seen[0][0] > _PAST:
                self._seen.popleft()

    def retry_after(self, age: float, allowed: float) -> float:
        """Seconds until a message is likely to be taken, now that the first has waited for `age` instead of `allowed`.

        The queue is worked off in order, and nothing is added to it meanwhile. So its first message ages by a second
        a second, less the seconds of arrivals that the workers get through.
        """
        self.observe(age)
        with self._lock:
            (then, first), (now, last) = self._seen[0], self._seen[-1]
        pace = (last - first) / (now - then) if now - then >= 2 * _STEP else 0.0
        if pace <= 0:
            # Nobody works, or nobody knows yet.
            wait = max(age - allowed, allowed / 2)
        elif pace <= 1:
            wait = age / pace
        else:
            wait = min((age - allowed) / (pace - 1), age / pace)
        return min(max(wait, _SHORTEST), _LONGEST)
