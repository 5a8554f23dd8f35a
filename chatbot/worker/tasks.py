"""The Celery tasks: names and arguments only; `replies` does the work."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from celery.exceptions import Retry

from chatbot.errors import ChatbotError, StoreUnavailable
from chatbot.logs import bound
from chatbot.queue.celery_app import CANARY, GENERATE_REPLY
from chatbot.telemetry import liveness
from chatbot.telemetry.counters import WORKER_REDIS_ERRORS, Counts
from chatbot.worker.models.event_loop import outside
from chatbot.worker.services import WorkerServices

logger = logging.getLogger(__name__)


class ReplyFailed(ChatbotError):
    """The model gave no reply to some messages of a task; each failure is recorded and may be retried."""


def add_tasks(celery: Celery, services: WorkerServices) -> None:
    """Adds the tasks to the app. They use the services of the process in which they run."""

    @celery.task(name=GENERATE_REPLY, throws=(StoreUnavailable, ReplyFailed))
    def generate_reply(session_id: str) -> None:
        """Answers the unanswered messages of a session. Idempotent: may run twice, late or out of order."""
        # Bound: steps of a reply run in other threads too, where Celery knows of no task.
        with bound(task_id=generate_reply.request.id), counting_outages(services.counts):
            try:
                outcome = services.replies().answer(session_id)
            except StoreUnavailable:
                services.ledger.missed(session_id)
                raise
        # What follows changes only how Flower shows the task, which is done.
        if outcome.failures:
            raise ReplyFailed(f"{outcome.failures} without a reply: the worker's log says why")
        if outcome.retry_in is not None:
            # Raised without `Task.retry`, it has Celery send nothing: the retry is in the ledger.
            raise Retry(when=round(outcome.retry_in, 1))

    @celery.task(name=CANARY, send_events=False, throws=(StoreUnavailable,))
    def canary(worker: str) -> None:
        """Records that `worker`, the only consumer of this task's queue, runs tasks."""
        outside(lambda: liveness.record_signal(services.client, worker))


@contextmanager
def counting_outages(counts: Counts) -> Iterator[None]:
    """Counts, logs and passes on that an answer ends because Redis is unavailable.

    Celery does not log errors listed in `throws`.
    """
    try:
        yield
    except StoreUnavailable as error:
        counts.add(WORKER_REDIS_ERRORS)
        logger.warning("an answer ends because Redis is unavailable; the ledger has the remaining messages: %s", error)
        raise
