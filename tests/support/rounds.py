"""Times that a user notices, on a machine that may be busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: The machine may be busy, but not every time.
_ROUNDS = 8


def within(seconds: float, act: Callable[[], T]) -> T:
    """What `act()` returns. Fails if it took longer in each of several rounds."""
    took: list[float] = []
    for _ in range(_ROUNDS):
        began = time.monotonic()
        found = act()
        took.append(time.monotonic() - began)
        if took[-1] < seconds:
            return found
    raise AssertionError(f"not within {seconds} s, but {took}")
