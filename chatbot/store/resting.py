"""A Redis that failed is asked again by one caller at a time, where a step can do without it.

So its failure, which a frozen one takes seconds for, delays no step of sessions that are elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from chatbot.errors import ChatbotError, DamagedSession, StoreUnavailable
from chatbot.store.partitions import Node

logger = logging.getLogger(__name__)

#: Seconds until a Redis that failed is asked again: at first, and at most after doubling each time.
_FIRST_REST, _LONGEST_REST = 1.0, 30.0
#: Seconds within which the caller that asks again has an answer, or has failed.
_PROBE = 10.0

T = TypeVar("T")


class Resting:
    """The nodes that failed lately. Safe for many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        #: Until when a node rests, by the clock, and for how long it does next.
        self._until: dict[Node, tuple[float, float]] = {}

    def without(self, node: Node, step: Callable[[], T], otherwise: T, what: str) -> T:
        """What the step at the node returns; `otherwise` while the node rests, or when it fails now.

        `what` says in the log what does not happen then.
        """
        with self._lock:
            until, rest = self._until.get(node, (0.0, _FIRST_REST))
            if until > self._clock():
                return otherwise
            if until:
                self._until[node] = self._clock() + _PROBE, rest
        try:
            found = step()
        except StoreUnavailable as error:
            if isinstance(error, DamagedSession):
                raise
            with self._lock:
                self._until[node] = self._clock() + rest, min(2 * rest, _LONGEST_REST)
            logger.warning("%s, as Redis %d fails: %s", what, node.number + 1, error)
            return otherwise
        except ChatbotError:
            # The node has answered.
            self._wake(node)
            raise
        if until:
            self._wake(node)
        return found

    def _wake(self, node: Node) -> None:
        with self._lock:
            self._until.pop(node, None)
