"""Token buckets in this process that delay a client instead of refusing it."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Keys with a throttle of their own after which the idle ones are dropped.
_MANY = 10_000


class Throttle:
    """A token bucket that says how long to wait."""

    def __init__(self, rate: float, size: float) -> None:
        """`size` at once, then `rate` per second."""
        self._each = 1 / rate
        self._slack = size / rate
        # The monotonic time at which the bucket is full again.
        self._full = 0.0

    def delay(self, amount: float) -> float:
        """Takes `amount`; returns the seconds to wait before the next."""
        now = time.monotonic()
        self._full = max(self._full, now) + amount * self._each
        return max(self._full - now - self._slack, 0.0)

    def wait(self) -> float:
        """The seconds to wait; takes nothing."""
        return max(self._full - time.monotonic() - self._slack, 0.0)

    def busy(self) -> bool:
        """Whether something that was taken has not come back."""
        return self._full > time.monotonic()


class Throttles:
    """A `Throttle` for each of many keys; idle ones are dropped."""

    def __init__(self, make: Callable[[], Throttle]) -> None:
        self._make = make
        self._throttles: dict[str, Throttle] = {}
        self._many = _MANY

    def of(self, key: str) -> Throttle:
        """The throttle of `key`."""
        if len(self._throttles) >= self._many:
            self._throttles = {key: throttle for key, throttle in self._throttles.items() if throttle.busy()}
            self._many = max(_MANY, 2 * len(self._throttles))
        return self._throttles.setdefault(key, self._make())


def hold_back(seconds: float) -> None:
    """Waits; other requests are served meanwhile."""
    if seconds:
        time.sleep(seconds)
