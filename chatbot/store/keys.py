"""The names of all keys in Redis. Which partition has which keys: partitions.py."""

from __future__ import annotations

from functools import cache, lru_cache
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
#: A hash, the outbox: what requests with an API key have used, until it is added to the key's usage. Field: the charge;
#: value: its usage. It belongs beside the ledger, as the same steps write both. See api_keys/charges.py.
CHARGES = "chat:charges"
#: A hash: the id of each API key, with its name.
API_KEYS = "chat:keys"
#: Exists for a while after old reservations were checked.
CHARGES_CHECKED = "chat:charges:checked"
#: Before a worker's name: its replies in progress and its slots, as two numbers.
WORKER_LOAD = "chat:load:"
#: A hash: the calls in progress on several model servers. Field: a worker process; see telemetry/model_calls.py.
MODEL_CALLS = "chat:model-calls"
#: A hash with the sums of what all workers counted: see telemetry/counters.py.
METRICS = "chat:metrics"
#: Never exists, and each script names it. While a slot of a Redis Cluster moves, Redis so refuses the script before it
#: begins; otherwise it would fail in its middle.
ABSENT = "chat:absent"


class SharedKeys(NamedTuple):
    """The KEYS of every script that works on many sessions of a partition, under the same names."""

    ledger: str = LEDGER
    waiting: str = WAITING
    pace: str = PACE
    outbox: str = CHARGES
    absent: str = ABSENT


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
    partial_calls: str
    charges: str
    sockets: str
    lease: str
    damaged: str
    ledger: str
    waiting: str
    pace: str
    outbox: str
    absent: str

    @property
    def own(self) -> tuple[str, ...]:
        """The keys of this session alone."""
        return self[: len(SUFFIXES)]


#: The last part of the name of a session's channel, see protocol/events.py.
EVENTS = "events"
#: The last part of each key of a session's own, by its name in `SessionKeys`.
SUFFIXES = {
    "document": "session",
    **{name: name for name in SessionKeys._fields[1 : SessionKeys._fields.index("ledger")]},
}


def session_prefix(session_id: str, tag: str = "") -> str:
    """What stands before the last part of each name of a session's own. What is in braces, the session's id or the
    `tag` of its partition, is all that a Redis Cluster places a key by."""
    return f"chat:{{{tag}}}:{session_id}:" if tag else f"chat:{{{session_id}}}:"


@lru_cache(maxsize=500)
def session_keys(session_id: str, tag: str = "") -> SessionKeys:
    """The keys of one session, and those that all sessions of its partition share."""
    prefix = session_prefix(session_id, tag)
    return SessionKeys._make([*(prefix + suffix for suffix in SUFFIXES.values()), *shared_keys(tag)])


def events_channel(session_id: str, tag: str = "") -> str:
    """The channel with the events of one session."""
    return session_prefix(session_id, tag) + EVENTS


@cache
def shared_keys(tag: str = "") -> SharedKeys:
    """The keys that all sessions of a partition share."""
    return SharedKeys(*(tagged(name, tag) for name in SharedKeys()))


def tagged(name: str, tag: str) -> str:
    """The name of a key that a partition has for itself: `chat:ledger` or `chat:{TAG}:ledger`."""
    return f"chat:{{{tag}}}:{name.removeprefix('chat:')}" if tag else name


class ApiKeyKeys(NamedTuple):
    """The KEYS of the scripts that work on one API key, under the same names.

    They share the key's hash tag, and are in another slot of a Redis Cluster than sessions.
    """

    facts: str
    #: A hash: requests that were accepted and are not settled, by their charge; each with its reserved tokens.
    reserved: str
    #: The usage of a day, of a month, and ever: hashes.
    day: str
    month: str
    total: str
    #: When the buckets of the rates will be full again.
    request_rate: str
    token_rate: str
    #: See `ABSENT`.
    absent: str


def api_key_keys(key_id: str, day: str = "", month: str = "") -> ApiKeyKeys:
    """The keys of one API key; `day` and `month` as ISO 8601 writes them."""
    first = f"chat:key:{{{key_id}}}:"
    parts = ("facts", "reserved", f"day:{day}", f"month:{month}", "total", "rate:requests", "rate:tokens", "absent")
    return ApiKeyKeys(*(first + part for part in parts))
