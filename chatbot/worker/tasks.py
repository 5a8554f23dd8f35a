"""The Celery tasks: names and arguments only, the work is done elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery, Task

from chatbot.errors import StoreUnavailable
from chatbot.leases import Leases
from chatbot.logs import bound
from chatbot.queue import GENERATE_REPLY, SWEEP
from chatbot.worker.replies import Replies


def register(celery: Celery, replies: Callable[[], Replies], leases: Callable[[], Leases]) -> None:
    """Adds the tasks to the app; `replies` and `leases` are asked for when a task runs, in its process."""

    @celery.task(name=GENERATE_REPLY, bind=True, throws=(StoreUnavailable,))
    def generate_reply(self: Task, session_id: str) -> None:
        """Answers what is unanswered in a session. Coming twice, late or out of order does no harm."""
        with bound(task=self.request.id):
            replies().answer(session_id)

    # The sweep runs every second: its events would push everything else out of Flower.
    @celery.task(name=SWEEP, send_events=False, throws=(StoreUnavailable,))
    def sweep() -> None:
        """Enqueues again what is overdue."""
        for session_id in leases().sweep():
            generate_reply.apply_async((session_id,))
