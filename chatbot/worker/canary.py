"""How a worker proves that it lives: by running tasks, not by answering pings.

A heartbeat comes from a thread that goes on though no task is ever run again. So each worker has a queue that nobody
else takes from, puts a canary task there every few seconds, and the thread of the pool that runs it notes the proof.
That takes the whole way: broker, consumer, pool, Redis. What proves it as well:

- All threads are taken, so that no canary is fetched, but replies within their deadlines are being reported: one of
  them ends, and then the canary has its turn.
- The broker does not answer, or was back only lately: that is no fault of the worker's, and starting it anew is no
  cure.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import redis
from celery import Celery
from celery.worker import state
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError

from chatbot.errors import StoreUnavailable
from chatbot.queue.celery_app import CANARY
from chatbot.telemetry import liveness
from chatbot.telemetry.counters import WORKER_REDIS_ERRORS, Counts

logger = logging.getLogger(__name__)

#: Canaries in the time after which a worker counts as silent.
_PER_TIMEOUT = 4
#: Seconds between two looks at most: what is counted goes to Redis as often.
_LONGEST_INTERVAL = 3.0
#: Seconds after the broker failed for which a worker is excused: Celery tries to connect at intervals of up to 32 s.
_RECONNECT = 40.0
#: Seconds after which the queue of a worker that is gone goes, too.
_QUEUE_EXPIRES = 120.0


class Canary:
    """Sends canaries and what was counted, from a thread of its own."""

    def __init__(
        self,
        celery: Celery,
        client: Callable[[], redis.Redis],
        counts: Counts,
        *,
        worker: str,
        timeout: float,
        reporting: Callable[[], bool],
    ) -> None:
        """`worker` is its name among the living; `timeout` seconds without a proof make it count as silent.

        `reporting` tells whether a reply is in progress that is within its deadline and was reported lately.
        """
        self._celery = celery
        self._client = client
        self._counts = counts
        self._worker = worker
        self._interval = min(timeout / _PER_TIMEOUT, _LONGEST_INTERVAL)
        self._reporting = reporting
        self._excused_until = 0.0
        self._ending = threading.Event()
        # The worker's own: it begins with the process and soon ends after it.
        name = f"canary {worker}"
        self._queue = Queue(name, Exchange(""), routing_key=name, expires=_QUEUE_EXPIRES)

    def add_queue(self) -> None:
        """Has the worker take from the queue of its canaries, whatever other queues it takes from."""
        self._celery.amqp.queues.select_add(self._queue)
        # Celery gives it an exchange, where its name would stay for ever; the default one needs none.
        self._queue.exchange = Exchange("")

    def start(self) -> None:
        """From here on the worker proves that it lives."""
        threading.Thread(target=self._run, name="vitals", daemon=True).start()

    def leave(self) -> None:
        """The worker ends in order: it is no longer counted."""
        self._ending.set()
        try:
            liveness.forget_worker(self._client(), self._worker)
        except StoreUnavailable as error:
            logger.warning("could not take leave: %s", error)

    def flush(self) -> None:
        """Adds what was counted to the sums in Redis."""
        try:
            self._counts.flush(self._client())
        except StoreUnavailable as error:
            # It is kept for the next time.
            self._counts.add(WORKER_REDIS_ERRORS)
            logger.debug("metrics wait: %s", error)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._send_canary()
                if self._excused():
                    liveness.record_proof(self._client(), self._worker)
            except StoreUnavailable as error:
                logger.warning("could not tell that this worker lives: %s", error)
            except Exception:
                logger.exception("the worker's health could not be told")
            self.flush()
            self._ending.wait(self._interval)

    def _send_canary(self) -> None:
        """One at a time: there is nothing to learn from a second one behind it."""
        try:
            with self._celery.producer_pool.acquire(block=True, timeout=self._interval) as producer:
                if self._queue(producer.channel).queue_declare().message_count:
                    return
                self._celery.send_task(
                    CANARY,
                    (self._worker,),
                    queue=self._queue,
                    producer=producer,
                    declare=(),
                    ignore_result=True,
                )
        except (KombuError, redis.RedisError, OSError) as error:
            self._excused_until = time.monotonic() + _RECONNECT
            logger.warning("the broker took no canary: %s: %s", type(error).__name__, error)

    def _excused(self) -> bool:
        if time.monotonic() < self._excused_until:
            return True
        full = len(state.reserved_requests) >= self._celery.conf.worker_concurrency
        return full and self._reporting()
