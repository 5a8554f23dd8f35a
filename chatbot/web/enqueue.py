"""Publishes tasks to the broker in the background.

The message is in the ledger already: the queue is only the fast way. The sweep enqueues what could not be published.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery

from chatbot.logs import bound
from chatbot.queue.celery_app import BROKER_ERRORS, PUBLISH_TIMEOUT, publish_reply

logger = logging.getLogger(__name__)

#: Threads that publish, each with one round trip to the broker at a time.
_PUBLISHERS = 4


class Enqueuer:
    """Publishes `generate_reply` tasks in the background, one for each session that waits."""

    def __init__(self, celery: Celery, on_failure: Callable[[], None] = lambda: None) -> None:
        """`on_failure` is called for each task that the broker did not take."""
        self._celery = celery
        self._on_failure = on_failure
        #: Sessions, each with the id of the latest message.
        self._waiting: dict[str, str | None] = {}
        self._changed = threading.Condition()
        self._started = False

    def enqueue(self, session: str, message_id: str | None = None) -> None:
        """Returns at once. The log names `message_id` when the task cannot be published."""
        with self._changed:
            self._waiting[session] = message_id
            if not self._started:
                self._started = True
                for _ in range(_PUBLISHERS):
                    threading.Thread(target=self._run, name="enqueuer", daemon=True).start()
            self._changed.notify()

    def _run(self) -> None:
        producer = None
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                session = next(iter(self._waiting))
                message_id = self._waiting.pop(session)
            with bound(session=session, message_id=message_id):
                producer = self._publish(session, producer)

    def _publish(self, session: str, producer: Any) -> Any:
        """Publishes with the producer, or a new one, and returns it; None after a failure."""
        try:
            # Reused: taking one out of the pool for each task costs a sixth of publishing it.
            producer = producer or self._celery.producer_pool.acquire(block=True, timeout=PUBLISH_TIMEOUT)
            publish_reply(self._celery, session, producer)
            return producer
        except BROKER_ERRORS as error:
            logger.warning("the broker took no task, the sweep will send it: %s: %s", type(error).__name__, error)
        except Exception:
            logger.exception("publishing a task failed, the sweep will send it")
        if producer is not None:
            producer.release()
        self._on_failure()
        return None
