"""The ledger: the sessions with unanswered messages, each with the due time of its next check.

A message is in it before the client gets its `ack`. So a message is answered though its task, or the worker, is lost.
"""

from __future__ import annotations

import redis

from chatbot.errors import StoreUnavailable
from chatbot.sessions.leases import GRACE, LEASE
from chatbot.store.keys import LEDGER, WAITING
from chatbot.store.scripts import Scripts

#: Milliseconds between two checks of a session that no worker takes: at first, and at most after doubling each time.
FIRST_WAIT = 2000
LONGEST_WAIT = 60_000
#: Sessions of one sweep; the sweep a second later has the next ones.
SWEEP_SIZE = 1000


class Ledger:
    """Every method raises `StoreUnavailable` when Redis fails."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._scripts = Scripts(client)

    def overdue(self) -> list[str]:
        """The sessions to enqueue again. Each becomes due again later, and the leases of dead workers are released."""
        answer: list[str] = self._scripts.run(
            "sweep",
            (LEDGER, WAITING),
            limit=SWEEP_SIZE,
            lease_ms=LEASE,
            grace_ms=GRACE,
            first_wait_ms=FIRST_WAIT,
            longest_wait_ms=LONGEST_WAIT,
        )
        return answer

    def size(self) -> int:
        """The number of sessions with unanswered messages."""
        try:
            return int(self.client.zcard(LEDGER))
        except redis.RedisError as error:
            raise StoreUnavailable(f"ledger: {type(error).__name__}: {error}") from error
