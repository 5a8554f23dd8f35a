"""The names of all keys in Redis."""

from __future__ import annotations

from functools import lru_cache

#: Sessions with unanswered messages, scored by the time, in ms since 1970, at which somebody should look.
LEDGER = "chat:ledger"


#: Sessions with unanswered messages, scored by the time, in ms since 1970, since when one waits for a worker; of a
#: session that a worker is at, and of one whose model call is put off, that lies ahead.
WAITING = "chat:waiting"


#: Sessions with unanswered messages, scored by the time, in ms since 1970, at which the oldest of them was accepted.
UNANSWERED = "chat:unanswered"


#: Worker processes, scored by the time, in seconds since 1970, at which they last proved to take and run tasks.
WORKERS = "chat:workers"


#: What all workers have counted: see metrics.py.
METRICS = "chat:metrics"


#: In the order of KEYS in scripts/_session.lua. The hash tag keeps one session's keys in one slot.
_SUFFIXES = ("session", "index", "turns", "pending", "failed", "state", "partial", "lease")


_SOCKETS = "sockets"


@lru_cache(maxsize=500)
def session_keys(session_id: str) -> tuple[str, ...]:
    """The keys of one session and those that all share, in the order that the scripts expect."""
    own = (f"chat:{{{session_id}}}:{suffix}" for suffix in _SUFFIXES)
    return (*own, LEDGER, WAITING, f"chat:{{{session_id}}}:{_SOCKETS}")
