"""The Celery worker app: the shared app, the worker's settings, the schedule and the tasks."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from functools import cached_property
from typing import Any

import redis
from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning

from chatbot import logs
from chatbot.config import Settings
from chatbot.protocol.events import STOP_CHANNEL
from chatbot.queue.celery_app import SWEEP, create_celery
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import Ledger
from chatbot.store.client import connect
from chatbot.store.listener import LISTENER_CONNECTIONS, Listener
from chatbot.telemetry.counters import Counts
from chatbot.worker.beat import Scheduler
from chatbot.worker.canary import Canary
from chatbot.worker.consumer import Consumer
from chatbot.worker.dispatcher import BatchEvents
from chatbot.worker.models import create_model
from chatbot.worker.prompts import max_messages
from chatbot.worker.replies import Replies
from chatbot.worker.streams import Streams
from chatbot.worker.tasks import register

logger = logging.getLogger(__name__)

#: Seconds between two sweeps: what a dead worker leaves behind waits this long at most, after its lease.
SWEEP_INTERVAL = 1.0
#: Seconds after which a sweep that no worker has taken is dropped: the next ones are behind it.
_SWEEP_EXPIRES = 5.0
#: Seconds that the first task waits for the listener; without it all works, only slower when things go wrong.
_FIRST_SUBSCRIPTION = 1.0
#: Connections to Redis besides one for each reply being generated.
_SPARE_CONNECTIONS = 10


class Parts:
    """What the tasks of one process work with, made when first used: after the fork, where there is one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self.counts = Counts()

    @cached_property
    def client(self) -> redis.Redis:
        return connect(self._settings.redis.url, self._settings.worker.concurrency + _SPARE_CONNECTIONS)

    @cached_property
    def leases(self) -> Leases:
        return Leases(
            self.client,
            ttl=self._settings.limits.session_ttl,
            history_messages=min(
                self._settings.model.history_messages, max_messages(self._settings.model.max_prompt_tokens)
            ),
            max_history=self._settings.limits.max_history_messages,
            channel=lambda: self.listener.channel,
        )

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.client)

    @cached_property
    def listener(self) -> Listener:
        client = connect(self._settings.redis.url, LISTENER_CONNECTIONS, retries=0)
        return Listener(client, lambda _, session: self.streams.stop(session))

    @cached_property
    def streams(self) -> Streams:
        return Streams(self.leases, self.counts)

    @cached_property
    def _replies(self) -> Replies:
        self.listener.subscribe(STOP_CHANNEL, timeout=_FIRST_SUBSCRIPTION)
        self.listener.wait_until_receiving(_FIRST_SUBSCRIPTION)
        return Replies(self.leases, self.streams, create_model(self._settings), self._settings, self.counts)

    def replies(self) -> Replies:
        """The same for every thread of the process."""
        with self._lock:
            return self._replies

    def reporting(self) -> bool:
        """Whether replies are in progress, and Redis hears of them."""
        return "streams" in self.__dict__ and self.streams.reporting()

    def drain(self) -> None:
        """Begins no further message, and hands back those that take longer than the worker may take to end."""
        if "_replies" not in self.__dict__:
            return
        self._replies.draining = True
        deadline = time.monotonic() + self._settings.worker.shutdown_timeout
        while len(self.streams) and time.monotonic() < deadline:
            time.sleep(0.05)
        handed_back = self.streams.cancel_all("shutdown")
        if handed_back:
            logger.warning("handed %d messages back to other workers", handed_back)


def create_worker(settings: Settings) -> Celery:
    """The app for `celery -A celery_worker worker`, `beat` and `flower`."""
    celery = create_celery(settings)
    celery.events_cls = f"{BatchEvents.__module__}:{BatchEvents.__name__}"
    celery.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Whatever Redis refuses (too few replicas, no memory), the worker stays, and tries again.
        broker_channel_error_retry=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # A reply is a long wait for a model, not work: threads hold hundreds of them.
        worker_pool="threads",
        worker_concurrency=settings.worker.concurrency,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_consumer=f"{Consumer.__module__}:{Consumer.__name__}",
        beat_scheduler=f"{Scheduler.__module__}:{Scheduler.__name__}",
        beat_schedule={
            "sweep": {
                "task": SWEEP,
                "schedule": SWEEP_INTERVAL,
                "options": {"expires": _SWEEP_EXPIRES},
            }
        },
    )
    parts = Parts(settings)
    register(celery, parts.replies, lambda: parts.ledger, parts.counts)

    # Signals hold their receivers weakly: these live as long as the process.
    @signals.setup_logging.connect(weak=False)
    def configure_logging(**_: Any) -> None:
        logs.configure(settings)
        # At each loss of the broker Celery tells of tasks that it will deliver again; here the ledger does that.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)

    @signals.celeryd_after_setup.connect(weak=False)
    def add_canary(sender: str, instance: Any, **_: Any) -> None:
        canary = Canary(
            celery,
            lambda: parts.client,
            parts.counts,
            worker=f"{sender} {os.getpid()}",
            timeout=settings.worker.health_timeout,
            reporting=parts.reporting,
        )
        canary.add_queue()
        # The banner would be the only lines that are no JSON.
        instance.quiet = instance.quiet or logs.is_json(settings)

        @signals.worker_ready.connect(weak=False)
        def ready(**_: Any) -> None:
            canary.start()

        @signals.worker_shutting_down.connect(weak=False)
        def end(**_: Any) -> None:
            # In the signal handler of the main thread nothing may take long.
            threading.Thread(target=_end, args=(canary, parts), name="drain", daemon=True).start()

        @signals.worker_shutdown.connect(weak=False)
        def ended(**_: Any) -> None:
            # Once more: a canary that was under way may have proven that the worker lives.
            canary.leave()
            canary.flush()

    return celery


def _end(canary: Canary, parts: Parts) -> None:
    canary.leave()
    parts.drain()
