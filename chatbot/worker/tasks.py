"""The Celery tasks: names and arguments only, the work is done elsewhere."""

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


def register(celery: Celery, replies: Callable[[], Replies], ledger: Callable[[], Ledger], counts: Counts) -> None:
    """Adds the tasks to the app; `replies` and `ledger` are asked for when a task runs, in its process."""

    @celery.task(name=GENERATE_REPLY, throws=(StoreUnavailable,))
    def generate_reply(session_id: str) -> None:
        """Answers what is unanswered in a session. Coming twice, late or out of order does no harm."""
        with counting(counts):
            replies().answer(session_id)

    # The sweep runs every second: its events would push everything else out of Flower.
    @celery.task(name=SWEEP, send_events=False, throws=(StoreUnavailable,))
    def sweep() -> None:
        """Enqueues again what is overdue."""
        with counting(counts):
            for session_id in ledger().overdue():
                generate_reply.apply_async((session_id,))
        counts.add(SWEEPS)

    @celery.task(name=CANARY, send_events=False, throws=(StoreUnavailable,))
    def canary(worker: str) -> None:
        """Proves that `worker`, the only one that takes from this task's queue, takes and runs tasks."""
        liveness.record_proof(ledger().client, worker)


@contextmanager
def counting(counts: Counts) -> Iterator[None]:
    """Counts and logs a task that ends as Redis is away; Celery says nothing of errors that a task announces."""
    try:
        yield
    except StoreUnavailable as error:
        counts.add(WORKER_REDIS_ERRORS)
        logger.warning("a task ends, the ledger has what is left: %s", error)
        raise
