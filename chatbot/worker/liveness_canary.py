"""Canary tasks: a worker is alive when it runs tasks, not when it answers pings.

A heartbeat comes from a thread that continues when no task is ever run again. So each worker has a queue of its own,
sends a canary task there every few seconds, which runs where replies run and records a liveness signal in Redis. That
covers the broker, the consumer, the pool and Redis. A worker also counts as alive, without a canary, while

- all its slots are busy, so that no canary is fetched, but replies within their deadlines are being reported;
- the broker is unavailable, or came back only lately: restarting the worker would not help.

A worker that is silent for long ends itself: then other workers have its sessions, and whatever supervises it starts it
anew. Containers' supervisors restart a process that ends, not one that is unhealthy.
"""

from __future__ import annotations

import logging
import os
import threading
import time

from celery import Celery
from celery.worker import state
from kombu.entity import Exchange, Queue

from chatbot.errors import StoreUnavailable
from chatbot.queue.celery_app import BROKER_ERRORS, CANARY
from chatbot.telemetry import liveness
from chatbot.telemetry.counters import WORKER_REDIS_ERRORS
from chatbot.worker.services import WorkerServices

logger = logging.getLogger(__name__)

#: Canaries sent within the time after which a worker counts as silent.
_PER_TIMEOUT = 4
#: Seconds between two canaries, at most; counts are flushed to Redis as often.
_LONGEST_INTERVAL = 3.0
#: Seconds after a failure of the broker during which a worker is excused: Celery reconnects at up to 32 s intervals.
_RECONNECT_TIME = 40.0
#: Seconds after which the queue of a dead worker expires.
_QUEUE_EXPIRES = 120.0
#: A silent worker ends itself after so many times the time after which it counts as silent.
_TIMEOUTS_TO_END = 4


class Canary:
    """A thread that sends canaries and flushes the counts."""

    def __init__(self, celery: Celery, services: WorkerServices, *, worker: str, timeout: float) -> None:
        """`worker` is its name in `telemetry.liveness`: silent after `timeout` seconds without a signal."""
        self._celery = celery
        self._services = services
        self._worker = worker
        self._interval = min(timeout / _PER_TIMEOUT, _LONGEST_INTERVAL)
        # Checks in a row that found the worker silent: not a time, for a process that was frozen gets another chance.
        self._silent_checks = 0
        self._most_silent_checks = _TIMEOUTS_TO_END * timeout / self._interval
        self._timeout = timeout
        self._excused_until = 0.0
        self._ending = threading.Event()
        name = f"canary {worker}"
        self._queue = Queue(name, Exchange(""), routing_key=name, expires=_QUEUE_EXPIRES)

    def add_queue(self) -> None:
        """Makes the worker consume its canary queue, besides its other queues."""
        self._celery.amqp.queues.select_add(self._queue)
        # Celery sets an exchange, where the queue's name would stay for ever; the default exchange has no such list.
        self._queue.exchange = Exchange("")

    def start(self) -> None:
        """Starts sending canaries."""
        threading.Thread(target=self._run, name="canary", daemon=True).start()

    def unregister(self) -> None:
        """Stops sending canaries, and removes the worker from the list of workers."""
        self._ending.set()
        try:
            liveness.forget_worker(self._services.client, self._worker)
        except StoreUnavailable as error:
            logger.warning("could not unregister this worker: %s", error)

    def flush(self) -> None:
        """Adds the counts to the sums in Redis, and records the worker's load."""
        try:
            if not self._ending.is_set():
                liveness.record_load(self._services.client, self._worker, *self._services.load())
            self._services.counts.flush(self._services.client)
        except StoreUnavailable as error:
            # The counts are kept for the next flush.
            self._services.counts.add(WORKER_REDIS_ERRORS)
            logger.debug("metrics are kept until Redis is back: %s", error)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._send_canary()
                if self._excused():
                    liveness.record_signal(self._services.client, self._worker)
                self._watch()
            except StoreUnavailable as error:
                self._silent_checks = 0
                logger.warning("could not record that this worker is alive: %s", error)
            except Exception:
                logger.exception("sending a canary failed")
            try:
                self.flush()
            except Exception:
                logger.exception("storing the metrics failed")
            self._ending.wait(self._interval)

    def _watch(self) -> None:
        """Ends the process once it has been silent for long. Raises `StoreUnavailable`: its state is unknown then."""
        age = liveness.signal_age(self._services.client, self._worker)
        self._silent_checks = 0 if age is not None and age <= self._timeout else self._silent_checks + 1
        if self._silent_checks >= self._most_silent_checks and not self._ending.is_set():
            logger.critical("this worker runs no tasks any longer, and ends itself for another to start in its place")
            logging.shutdown()
            # Not `sys.exit`: the threads that are stuck would be waited for.
            os._exit(1)

    def _send_canary(self) -> None:
        """Sends a canary unless the last one still waits in the queue."""
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
        except BROKER_ERRORS as error:
            self._excused_until = time.monotonic() + _RECONNECT_TIME
            logger.warning("the broker took no canary: %s: %s", type(error).__name__, error)

    def _excused(self) -> bool:
        """Whether the worker counts as alive though no canary may run."""
        if time.monotonic() < self._excused_until:
            return True
        busy = len(state.reserved_requests) >= self._celery.conf.worker_concurrency
        return busy and self._services.reporting()
