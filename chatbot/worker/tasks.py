"""The Celery tasks: names and arguments only; `replies` and `leases` do the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery import Celery

from chatbot.errors import StoreUnavailable
from chatbot.queue.celery_app import CANARY, GENERATE_REPLY, SWEEP
from chatbot.sessions.ledger import Ledger
from chatbot.telemetry import liveness
from chatbot.telemetry.counters import SWEEPS, WORKER_REDIS_ERRORS, Counts
from chatbot.worker.replies import Replies

logger = logging.getLogger(__name__)


def add_tasks(celery: Celery, replies: Callable[[], Replies], ledger: Callable[[], Ledger], counts: Counts) -> None:
    """Adds the tasks to the app; `replies` and `ledger` are called when a task runs, in its process."""

    @celery.task(name=GENERATE_REPLY, throws=(StoreUnavailable,))
    def generate_reply(session_id: str) -> None:
        """Answers the unanswered messages of a session. Idempotent: may run twice, late or out of order."""
        with counting_outages(counts):
            replies().answer(session_id)

    # The sweep runs every second: its events would crowd everything else out of Flower.
    @celery.task(name=SWEEP, send_events=False, throws=(StoreUnavailable,))
    def sweep() -> None:
        """Re-enqueues overdue sessions."""
        with counting_outages(counts):
            for session_id in ledger().overdue():
                generate_reply.apply_async((session_id,))
        counts.add(SWEEPS)

    @celery.task(name=CANARY, send_events=False, throws=(StoreUnavailable,))
    def canary(worker: str) -> None:
        """Records that `worker`, the only consumer of this task's queue, runs tasks."""
        liveness.record_signal(ledger().client, worker)


@contextmanager
def counting_outages(counts: Counts) -> Iterator[None]:
    """Counts and logs a task that ends because Redis is unavailable; Celery does not log errors listed in `throws`."""
    try:
        yield
    except StoreUnavailable as error:
        counts.add(WORKER_REDIS_ERRORS)
        logger.warning("a task ends because Redis is unavailable; the ledger has the remaining messages: %s", error)
        raise
