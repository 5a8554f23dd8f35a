"""A circuit breaker for each Redis, for steps that can do without an answer: one that failed is not asked for a while.

A frozen Redis takes seconds to fail. So it delays one caller at a time, and no step of sessions that are elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from chatbot.errors import ChatbotError, DamagedSession, StoreUnavailable
from chatbot.store.partitions import PartitionGroup

logger = logging.getLogger(__name__)

#: Seconds that a breaker is open after a failure: at first, and at most after doubling each time.
_FIRST_OPEN, _LONGEST_OPEN = 1.0, 30.0
#: Seconds within which the caller that asks again has an answer, or has failed.
_PROBE = 10.0

T = TypeVar("T")


class CircuitBreakers:
    """The breakers of all partition groups. Safe for many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: Of the groups that failed lately: until when the breaker is open, by the clock, and for how long it is next.
        self._until: dict[PartitionGroup, tuple[float, float]] = {}

    def call(self, group: PartitionGroup, step: Callable[[], T], otherwise: T, consequence: str) -> T:
        """What a step at the group's Redis returns; `otherwise` while its breaker is open, or when it fails now.

        `consequence` says in the log what follows from a failure.
        """
        with self._lock:
            until, seconds = self._until.get(group, (0.0, _FIRST_OPEN))
            if until > self._clock():
                return otherwise
            if until:
                self._until[group] = self._clock() + _PROBE, seconds
        try:
            found = step()
        except StoreUnavailable as error:
            if isinstance(error, DamagedSession):
                raise
            with self._lock:
                self._until[group] = self._clock() + seconds, min(2 * seconds, _LONGEST_OPEN)
            logger.warning("%s, as Redis %d fails: %s", consequence, group.number + 1, error)
            return otherwise
        except ChatbotError:
            # The group has answered.
            self._close(group)
            raise
        if until:
            self._close(group)
        return found

    def _close(self, group: PartitionGroup) -> None:
        with self._lock:
            self._until.pop(group, None)
