"""Sweeps and ends of sessions, for tests of the steps."""

from __future__ import annotations

import redis

from chatbot.sessions.ledger import Ledger, Overdue
from chatbot.store.keys import SWEPT, session_keys


def sweep(client: redis.Redis) -> Overdue:
    """A sweep now, whenever the last one was."""
    client.delete(SWEPT)
    overdue = Ledger(client).overdue()
    assert overdue is not None
    return overdue


def overdue(client: redis.Redis) -> list[str]:
    """The ids of all sessions that a sweep finds now."""
    found = sweep(client)
    return [*found.owed, *found.unclaimed, *found.queued]


def end_session(client: redis.Redis, session: str) -> None:
    """Deletes a session's keys, as their expiry does."""
    client.delete(*session_keys(session).own)
