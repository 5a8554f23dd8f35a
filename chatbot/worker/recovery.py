"""Recovery: what is owed is answered ahead of what is new.

A session is owed a reply when a worker claimed it and died, or postponed the reply, or when its task was lost. Each
worker process sweeps the ledger, one of them each second. Owed sessions take slots that no new message can take; what
these slots cannot hold goes into the queue, ahead of all new messages. So recovery waits neither behind the traffic nor
for the broker.

While the broker is away no task can be published: the sweeps, then five a second, find every new message, and each gets
any slot that is free.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from celery import Celery

from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.queue.celery_app import BROKER_ERRORS, NEW, OWED, PUBLISH_TIMEOUT, publish_reply
from chatbot.sessions.ledger import OUTAGE_INTERVAL, SWEEP_INTERVAL
from chatbot.store.partitions import PartitionGroup
from chatbot.telemetry.counters import SWEEPS, WORKER_REDIS_ERRORS
from chatbot.worker.services import WorkerServices
from chatbot.worker.tasks import counting_outages

logger = logging.getLogger(__name__)

#: Seconds after which a failure is that of a frozen broker (one that is down refuses at once); seconds without it then.
_SLOW_FAILURE, _BROKER_REST = 3.0, 5.0


class Recovery:
    """A thread for each Redis that sweeps its ledger, and a thread for each reply that is recovered."""

    def __init__(self, celery: Celery, services: WorkerServices, connected: Callable[[], bool]) -> None:
        """`connected` returns whether the worker can fetch tasks from the broker."""
        self._celery = celery
        # Its parts are made when they are first used: in the threads, after a fork if there is one.
        self._services = services
        self._connected = connected
        self._lock = threading.Lock()
        self._answering = 0
        self._ending = threading.Event()
        # Until then, by the monotonic clock, the broker is not asked; None when it took the last tasks.
        self._publish_after: float | None = None

    def start(self) -> None:
        """Sweeps now, and then each second, or more often while the broker is away."""
        for group in self._services.partitions.groups:
            threading.Thread(target=self._run, args=(group,), name="recovery", daemon=True).start()

    def stop(self) -> None:
        """Recovers nothing further; replies in progress continue."""
        self._ending.set()

    def _run(self, group: PartitionGroup) -> None:
        while not self._ending.is_set():
            try:
                self.sweep(group)
            except StoreUnavailable as error:
                self._services.counts.add(WORKER_REDIS_ERRORS)
                logger.warning("could not sweep: %s", error)
            except Exception:
                logger.exception("a sweep failed")
            self._wait()

    def _wait(self) -> None:
        """Waits for the next sweep; at most `OUTAGE_INTERVAL` while this worker cannot fetch tasks."""
        deadline = time.monotonic() + SWEEP_INTERVAL
        while not self._ending.wait(OUTAGE_INTERVAL) and self._connected() and time.monotonic() < deadline:
            pass

    def sweep(self, group: PartitionGroup) -> None:
        """Gives each overdue session of a group a worker, and settles the charges there. Raises `StoreUnavailable`."""
        connected = self._connected()
        overdue = self._services.ledger.overdue(group, SWEEP_INTERVAL if connected else OUTAGE_INTERVAL)
        if overdue is None:
            return
        self._services.counts.add(SWEEPS)
        away = self._publish_after is not None or not connected
        owed, new = overdue.owed, overdue.unclaimed
        if away:
            # Tasks in the queue are out of reach, those of `queued` too, and take no slots: any that is free will do.
            owed = [*overdue.queued, *owed]
        else:
            for session in overdue.queued:
                self._answer(session)
        owed = [session for session in owed if not self._answer(session, any_slot=away)]
        if away:
            new = [session for session in new if not self._answer(session, any_slot=True)]
        if unpublished := self._publish([*((session, OWED) for session in owed), *((session, NEW) for session in new)]):
            left = [session for session in unpublished if not self._answer(session, any_slot=True)]
            self._services.ledger.check_next(left)
        self._services.charges.settle(overdue.charged)
        if group is self._services.partitions.groups[0]:
            self._services.charges.check_old()

    def _publish(self, tasks: list[tuple[str, int]]) -> list[str]:
        """Publishes a task for each session, with its priority; returns those that the broker did not take."""
        began, done = time.monotonic(), 0
        try:
            if tasks and began >= (self._publish_after or 0.0):
                with self._celery.producer_pool.acquire(block=True, timeout=PUBLISH_TIMEOUT) as producer:
                    for session, priority in tasks:
                        publish_reply(self._celery, session, producer, priority)
                        done += 1
                self._publish_after = None
        except BROKER_ERRORS as error:
            logger.warning(
                "the broker took %d of %d overdue tasks: %s: %s", done, len(tasks), type(error).__name__, error
            )
            failed = time.monotonic()
            self._publish_after = failed + (_BROKER_REST if failed - began > _SLOW_FAILURE else 0.0)
        return [session for session, _ in tasks[done:]]

    def _answer(self, session: str, *, any_slot: bool = False) -> bool:
        """Answers the session in a slot for recovery, or in `any_slot`; false when none is free."""
        busy, slots = self._services.load()
        with self._lock:
            spare = any_slot and max(busy, self._answering) < slots
            if self._answering >= self._services.recovery_slots and not spare:
                return False
            self._answering += 1
        threading.Thread(target=self._answer_now, args=(session,), name="recovered", daemon=True).start()
        return True

    def _answer_now(self, session: str) -> None:
        try:
            with bound(session=session), suppress(StoreUnavailable), counting_outages(self._services.counts):
                self._services.replies().answer(session)
        except Exception:
            with bound(session=session):
                logger.exception("recovering a session failed")
        finally:
            with self._lock:
                self._answering -= 1
