"""Days in UTC, at whose end the quotas of API keys begin anew."""

from __future__ import annotations

import time

_DAY = 86_400


def begin_within_a_day(seconds: float = 30.0) -> None:
    """Waits for the next day unless so many seconds are left of this one."""
    left = _DAY - time.time() % _DAY
    if left < seconds:
        time.sleep(left)
