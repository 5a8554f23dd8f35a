"""The names of all keys in Redis."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

#: Sessions with unanswered messages. Score: due time of the next check, in epoch milliseconds.
LEDGER = "chat:ledger"
#: Sessions with unanswered messages. Score: epoch milliseconds at which the session became ready for a worker; in the
#: future while a worker holds the lease or a retry is scheduled.
WAITING = "chat:waiting"
#: A hash: how fast workers claim sessions, see scripts/_pace.lua.
PACE = "chat:pace"
#: Before an address: its sessions in `WAITING`.
LINE = "chat:line:"
#: Exists for about a second after a sweep, so that many workers do not sweep as many times.
SWEPT = "chat:swept"
#: Worker processes. Score: epoch seconds of the last liveness signal.
WORKERS = "chat:workers"
#: Before a worker's name in `WORKERS`: bytes of its resident memory.
WORKER_MEMORY = "chat:memory:"
#: Before a worker's name: its replies in progress and its slots, as two numbers.
WORKER_LOAD = "chat:load:"
#: A hash with the sums of what all workers counted: see telemetry/counters.py.
METRICS = "chat:metrics"

#: The hash tag puts all keys of a session into one slot of a Redis Cluster.
BEFORE_ID, AFTER_ID = "chat:{", "}:"


class SessionKeys(NamedTuple):
    """The KEYS of every script that works on one session; the scripts have them under the same names.

    Those before `lease` expire together. docs/architecture.md says what each holds.
    """

    document: str
    index: str  # type: ignore[assignment]  # tuple's method of that name is not used
    turns: str
    pending: str
    failed: str
    state: str
    partial: str
    partial_reasoning: str
    sockets: str
    lease: str
    damaged: str
    ledger: str = LEDGER
    waiting: str = WAITING
    pace: str = PACE

    @property
    def own(self) -> tuple[str, ...]:
        """The keys of this session alone."""
        return self[: len(SUFFIXES)]


#: The last part of each key of a session's own, by its name in `SessionKeys`.
SUFFIXES = {
    "document": "session",
    **{name: name for name in SessionKeys._fields[1 : SessionKeys._fields.index("ledger")]},
}


@lru_cache(maxsize=500)
def session_keys(session_id: str) -> SessionKeys:
    """The keys of one session, and those that all sessions share."""
    return SessionKeys(*(f"{BEFORE_ID}{session_id}{AFTER_ID}{suffix}" for suffix in SUFFIXES.values()))
