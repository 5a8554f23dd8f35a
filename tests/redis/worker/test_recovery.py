"""What recovery does while the broker takes no tasks: the sessions are in a real Redis, the broker is a closed port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import redis

from chatbot.api_keys.charges import Charges
from chatbot.config import RedisSettings, Settings
from chatbot.queue.celery_app import create_celery
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import OUTAGE_INTERVAL, SWEEP_INTERVAL, Ledger, Overdue
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import SWEPT, WAITING
from chatbot.store.partitions import PartitionGroup, Partitions
from chatbot.telemetry.counters import Counts
from chatbot.worker.recovery import Recovery
from chatbot.worker.services import WorkerServices
from devtools.harness.deployment import eventually
from devtools.harness.ports import free_port

#: Slots of the worker, one of them for recovery alone.
SLOTS = 4
MESSAGES = 6


class Busy:
    """Answers a session when the test says so."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.begun: list[str] = []
        self.done: list[str] = []
        self.go = threading.Semaphore(0)

    def answer(self, session: str) -> None:
        work = self.leases.claim(session)
        assert work is not None
        self.begun.append(session)
        self.go.acquire()
        self.leases.commit(work, "Hello", "stop", go_on=True)
        self.done.append(session)


def services_of(
    ledger: Ledger, table: Partitions, replies: Busy, load: Callable[[], tuple[int, int]]
) -> WorkerServices:
    services = SimpleNamespace(
        ledger=ledger,
        charges=Charges(table),
        replies=lambda: replies,
        counts=Counts(),
        recovery_slots=1,
        load=load,
        partitions=table,
    )
    return cast("WorkerServices", services)


def test_all_slots_answer_while_the_broker_is_away_and_the_first_are_served_first(
    redis_client: redis.Redis, sessions: Sessions, leases: Leases
) -> None:
    waiting = [session_id(sessions.create("Ada")["token"]) for _ in range(MESSAGES)]
    for number, session in enumerate(waiting):
        sessions.requests.accept(session, "m1", "hello")
        redis_client.zincrby(WAITING, number - MESSAGES, session)
    table, replies = Partitions.single(redis_client), Busy(leases)
    ledger = Ledger(table)
    ledger.check_next(waiting)
    recovery = Recovery(
        create_celery(Settings(redis=RedisSettings(broker_url=f"redis://127.0.0.1:{free_port()}/0"))),
        services_of(ledger, table, replies, lambda: (len(replies.begun) - len(replies.done), SLOTS)),
        lambda: False,
    )

    def sweep() -> None:
        redis_client.delete(SWEPT)
        recovery.sweep(table.groups[0])

    sweep()
    eventually(lambda: len(replies.begun) == SLOTS)
    # Each second until a slot is free, not after ever longer waits.
    sweep()
    assert sorted(replies.begun) == sorted(waiting[:SLOTS])
    for _ in range(MESSAGES):
        replies.go.release()
    eventually(lambda: len(replies.done) == SLOTS)
    sweep()
    eventually(lambda: sorted(replies.done) == sorted(waiting))
    assert ledger.size() == 0


def test_a_worker_without_the_broker_sweeps_more_often(redis_client: redis.Redis, leases: Leases) -> None:
    connected = True
    intervals: list[float] = []

    class Noted(Ledger):
        def overdue(self, group: PartitionGroup | None = None, interval: float = SWEEP_INTERVAL) -> Overdue | None:
            intervals.append(interval)
            return super().overdue(group, interval)

    table = Partitions.single(redis_client)
    recovery = Recovery(
        create_celery(Settings(redis=RedisSettings(broker_url=f"redis://127.0.0.1:{free_port()}/0"))),
        services_of(Noted(table), table, Busy(leases), lambda: (0, SLOTS)),
        lambda: connected,
    )
    recovery.start()
    try:
        eventually(lambda: intervals, 5)
        connected = False
        eventually(lambda: intervals.count(OUTAGE_INTERVAL) > 1, 10)
        connected = True
        eventually(lambda: intervals[-1] == SWEEP_INTERVAL, 10)
    finally:
        recovery.stop()
    assert intervals[0] == SWEEP_INTERVAL
