"""Publishes tasks to the broker in the background.

The message is in the ledger already: the queue is only the fast way. What could not be published is due for the next
sweep, which enqueues it, or answers it in a free slot while the broker is away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery

from chatbot.config.broker_urls import is_amqp
from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.queue.celery_app import BROKER_ERRORS, PUBLISH_TIMEOUT, publish_reply
from chatbot.queue.elements import task_elements
from chatbot.sessions.ledger import Ledger

logger = logging.getLogger(__name__)

#: Threads that publish to RabbitMQ, each with one task and one round trip at a time.
_PUBLISHERS = 4
#: Seconds between two commands to a Redis: the tasks of the time between go together. The first one does not wait.
_SPACING = 0.01
#: Tasks of one command.
_MOST = 100


class Enqueuer:
    """Publishes `generate_reply` tasks in the background, one for each session that waits."""

    def __init__(self, celery: Celery, ledger: Ledger, on_failure: Callable[[], None] = lambda: None) -> None:
        """`on_failure` is called for each task that the broker did not take."""
        self._celery = celery
        self._ledger = ledger
        self._on_failure = on_failure
        #: Sessions, each with the id of the latest message.
        self._waiting: dict[str, str | None] = {}
        self._changed = threading.Condition()
        self._started = False
        rabbitmq = is_amqp(celery.conf.broker_url)
        self._publishers, self._most = (_PUBLISHERS, 1) if rabbitmq else (1, _MOST)
        self._elements = None if rabbitmq else task_elements(celery)

    def enqueue(self, session: str, message_id: str | None = None) -> None:
        """Returns at once. The log names `message_id` when the task cannot be published."""
        with self._changed:
            self._waiting[session] = message_id
            if not self._started:
                self._started = True
                for _ in range(self._publishers):
                    threading.Thread(target=self._run, name="enqueuer", daemon=True).start()
            self._changed.notify()

    @contextmanager
    def in_doubt(self, session: str, message_id: str) -> Iterator[None]:
        """Enqueues the session also where the step within raises `StoreUnavailable`.

        The step may have stored the message: its answer was lost, or the replicas lack it. The client's repetition is
        acknowledged then, and enqueues nothing.
        """
        try:
            yield
        except StoreUnavailable:
            self.enqueue(session, message_id)
            raise

    def _run(self) -> None:
        producer = None
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                named = {session: self._waiting.pop(session) for session in list(self._waiting)[: self._most]}
            try:
                # Reused: taking one out of the pool for each task costs a sixth of publishing it.
                producer = producer or self._celery.producer_pool.acquire(block=True, timeout=PUBLISH_TIMEOUT)
                self._publish(list(named), producer)
                problem = ""
            except BROKER_ERRORS as error:
                problem = f"{type(error).__name__}: {error}"
            except Exception:
                # The thread must go on.
                logger.exception("publishing a task failed")
                problem = "see the traceback above"
            if problem:
                self._postpone(named, problem)
                if producer is not None:
                    producer.release()
                producer = None
            if self._elements:
                time.sleep(_SPACING)

    def _publish(self, sessions: Sequence[str], producer: Any) -> None:
        if self._elements is None:
            (session,) = sessions
            publish_reply(self._celery, session, producer)
            return
        tasks = [self._elements(session) for session in sessions]
        with producer.channel.conn_or_acquire() as client:
            client.lpush(tasks[0][0], *(element for _, element in tasks))

    def _postpone(self, named: Mapping[str, str | None], problem: str) -> None:
        """Reports sessions without a task, and makes them due at the next sweep."""
        for session, message_id in named.items():
            with bound(session=session, message_id=message_id):
                logger.warning("the broker took no task, the sweep will send it: %s", problem)
            self._on_failure()
        # A session whose Redis is away too stays due at the time that it was accepted with.
        self._ledger.check_next(list(named))
