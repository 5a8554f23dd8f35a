"""Liveness signals of workers: each worker records the time at which it last ran a task.

Neither an existing process nor an answered ping shows that tasks are run; see worker/liveness_canary.py for what does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import redis

from chatbot.store.client import clock
from chatbot.store.errors import store_errors
from chatbot.store.keys import WORKER_LOAD, WORKER_MEMORY, WORKERS
from chatbot.telemetry.process_memory import resident_memory

#: Seconds after its last signal until which a worker that did not unregister is listed as silent.
FORGET_AFTER = 300.0
#: Seconds for which a worker's load counts after it was recorded. It is recorded every few seconds.
_LOAD_LIFE = 15


@dataclass(frozen=True)
class WorkerAges:
    """The age of each worker's last signal. A worker's name is its Celery node's name and its process id."""

    #: Seconds since each worker's last signal, by Redis' clock.
    ages: dict[str, float]
    #: Seconds after which a worker counts as silent.
    timeout: float

    @property
    def alive(self) -> int:
        """The number of workers with a signal within the timeout."""
        return sum(age <= self.timeout for age in self.ages.values())

    @property
    def silent(self) -> int:
        """The number of workers without one that did not shut down in order: killed, frozen, or unable to run tasks."""
        return len(self.ages) - self.alive

    @property
    def newest_age(self) -> float | None:
        """Seconds since the newest signal of any worker; None when no worker is listed."""
        return min(self.ages.values(), default=None)


def record_signal(client: redis.Redis, worker: str) -> None:
    """Records that `worker`, which is this process, is alive now, and its memory. Raises `StoreUnavailable`."""
    with store_errors("record_signal"):
        now = clock(client.time())
        with client.pipeline(transaction=False) as pipeline:
            pipeline.zadd(WORKERS, {worker: now})
            pipeline.set(f"{WORKER_MEMORY}{worker}", resident_memory(), ex=int(FORGET_AFTER))
            pipeline.zremrangebyscore(WORKERS, "-inf", now - FORGET_AFTER)
            pipeline.execute()


def record_load(client: redis.Redis, worker: str, in_progress: int, slots: int) -> None:
    """Records how many replies `worker` has in progress, of how many at a time. Raises `StoreUnavailable`."""
    with store_errors("record_load"):
        client.set(f"{WORKER_LOAD}{worker}", f"{in_progress} {slots}", ex=_LOAD_LIFE)


def signal_age(client: redis.Redis, worker: str) -> float | None:
    """Seconds since the last signal of one worker; None when it has sent none. Raises `StoreUnavailable`."""
    with store_errors("signal_age"), client.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.zscore(WORKERS, worker)
        now, recorded = pipeline.execute()
    return None if recorded is None else clock(now) - float(recorded)


def forget_worker(client: redis.Redis, worker: str) -> None:
    """Removes a worker that shuts down in order. Raises `StoreUnavailable`."""
    with store_errors("forget_worker"):
        client.zrem(WORKERS, worker)
        client.delete(f"{WORKER_MEMORY}{worker}")
        client.delete(f"{WORKER_LOAD}{worker}")


def read_workers(client: redis.Redis, timeout: float) -> WorkerAges:
    """All listed workers; `timeout` is `WORKER_HEALTH_TIMEOUT`, in seconds. Raises `StoreUnavailable`."""
    with store_errors("read_workers"):
        now = clock(client.time())
        found: Any = client.zrangebyscore(WORKERS, now - FORGET_AFTER, "+inf", withscores=True)
    return WorkerAges({str(name): max(now - float(score), 0.0) for name, score in found}, timeout)


def runs_here(pid: str) -> bool:
    """Whether a process with this id runs on this machine, or in this container."""
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, OverflowError, OSError):
        return False
    return True


def read_memory(client: redis.Redis, workers: WorkerAges) -> dict[str, int]:
    """Bytes of resident memory of each worker at its last signal. Raises `StoreUnavailable`."""
    return {name: int(used) for name, used in _of_each(client, WORKER_MEMORY, workers).items()}


def read_load(client: redis.Redis, workers: WorkerAges) -> tuple[int, int]:
    """The replies in progress and the slots of all workers together. Raises `StoreUnavailable`."""
    loads = [load.split() for load in _of_each(client, WORKER_LOAD, workers).values()]
    return sum(int(load[0]) for load in loads), sum(int(load[1]) for load in loads)


def _of_each(client: redis.Redis, prefix: str, workers: WorkerAges) -> dict[str, str]:
    """What each worker has stored under `prefix`, by the worker's name."""
    names = list(workers.ages)
    if not names:
        return {}
    with store_errors("read workers"), client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.get(f"{prefix}{name}")
        found: Any = pipeline.execute()
    return {name: value for name, value in zip(names, found, strict=True) if value is not None}
