"""Which workers live: each proves again and again that it takes tasks out of a queue and runs them.

A process that only exists proves nothing, nor does one that answers a ping: see worker/vitals.py for how it is proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from chatbot.errors import StoreUnavailable
from chatbot.store.client import clock
from chatbot.store.keys import WORKERS

#: Seconds after its last proof for which a worker that did not take its leave is remembered as silent.
FORGET_AFTER = 300.0


@dataclass(frozen=True)
class WorkerAges:
    """The workers by what they proved lately. A worker's name is that of its Celery node, then its process id."""

    #: Seconds since each worker's last proof, by Redis' clock.
    ages: dict[str, float]
    #: Seconds after which one counts as silent.
    timeout: float

    @property
    def alive(self) -> int:
        """Workers that ran a task, or were seen busy with replies, within the timeout."""
        return sum(age <= self.timeout for age in self.ages.values())

    @property
    def silent(self) -> int:
        """Workers that did not, and have not ended in order either: killed, frozen, or unable to run tasks."""
        return len(self.ages) - self.alive

    @property
    def newest_age(self) -> float | None:
        """Seconds since any worker's last proof; None when there was none for long."""
        return min(self.ages.values(), default=None)


def record_proof(client: redis.Redis, worker: str) -> None:
    """Notes that `worker` has just proven to live. Raises `StoreUnavailable`."""
    try:
        now = clock(client.time())
        with client.pipeline(transaction=False) as pipeline:
            pipeline.zadd(WORKERS, {worker: now})
            pipeline.zremrangebyscore(WORKERS, "-inf", now - FORGET_AFTER)
            pipeline.execute()
    except redis.RedisError as error:
        raise StoreUnavailable(f"prove: {type(error).__name__}: {error}") from error


def forget_worker(client: redis.Redis, worker: str) -> None:
    """`worker` ends in order and is no longer counted. Raises `StoreUnavailable`."""
    try:
        client.zrem(WORKERS, worker)
    except redis.RedisError as error:
        raise StoreUnavailable(f"take_leave: {type(error).__name__}: {error}") from error


def read_workers(client: redis.Redis, timeout: float) -> WorkerAges:
    """The workers known; `timeout` is `Settings.worker_health_timeout`. Raises `StoreUnavailable`."""
    try:
        now = clock(client.time())
        found: Any = client.zrangebyscore(WORKERS, now - FORGET_AFTER, "+inf", withscores=True)
    except redis.RedisError as error:
        raise StoreUnavailable(f"look: {type(error).__name__}: {error}") from error
    return WorkerAges({str(name): max(now - float(score), 0.0) for name, score in found}, timeout)
