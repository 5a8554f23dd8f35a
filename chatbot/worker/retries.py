"""When a failed model call is retried: exponential backoff with jitter, no earlier than the server asks for."""

from __future__ import annotations

import random

from chatbot.sessions.leases import Assignment
from chatbot.worker.models.errors import ModelError, ModelLoading, ModelUnavailable, TransientModelError

#: Seconds before the second attempt; doubled for each further one, up to the longest.
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 30.0
#: Seconds between attempts while the model is loading: when the server gives no estimate, and at least.
_LOADING_BACKOFF = 5.0
_SHORTEST_LOADING_BACKOFF = 0.2
#: Seconds between attempts while the server is unavailable: as long as it has been, within these bounds.
_UNAVAILABLE_BACKOFF = (1.0, 10.0)


def retry_delay(work: Assignment, error: ModelError, *, max_attempts: int, loading_timeout: float) -> float | None:
    """Seconds until the next attempt; None when the message has failed for good.

    Attempts while the model is loading or unavailable do not count; they end after `loading_timeout` seconds.
    """
    if not isinstance(error, TransientModelError):
        return None
    asked = error.retry_after
    if isinstance(error, ModelLoading):
        if work.loading_for >= loading_timeout:
            return None
        if isinstance(error, ModelUnavailable):
            shortest, longest = _UNAVAILABLE_BACKOFF
            backoff = min(max(work.loading_for, shortest), longest) * random.uniform(0.8, 1.2)
            return None if (asked or 0.0) > loading_timeout else max(backoff, asked or 0.0)
        wait = _LOADING_BACKOFF if asked is None else asked
        return min(max(wait, _SHORTEST_LOADING_BACKOFF), _LONGEST_BACKOFF)
    if work.attempts + 1 >= max_attempts or (asked or 0.0) > loading_timeout:
        return None
    backoff = min(_FIRST_BACKOFF * 2.0**work.attempts, _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)
    return max(backoff, asked or 0.0)
