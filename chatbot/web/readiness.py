"""The checks behind `/readyz`: whether this process can serve."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any
from weakref import WeakKeyDictionary

import redis

from chatbot.config.broker_urls import is_amqp
from chatbot.errors import StoreUnavailable
from chatbot.queue.redis_broker import CLUSTER_PREFIX
from chatbot.store.access import JSON_MISSING, SESSION_COMMANDS, find_problem
from chatbot.store.cluster.topology import is_cluster
from chatbot.store.partitions import PartitionGroup, Partitions
from chatbot.telemetry import liveness, redis_memory
from chatbot.telemetry.redis_use import check_use
from chatbot.web.fanout.hub import Hub

logger = logging.getLogger(__name__)

#: Seconds to wait for the listener's first heartbeat.
_FIRST_HEARTBEAT = 2.0
_DEAF = "does not hear its own heartbeat"
#: Seconds for all of several Redis to answer.
_PATIENCE = 0.5
_SILENT = {"redis": "does not answer", "redisjson": "unknown", "listener": "unknown"}
#: What a Redis is for: each is `ok`, or has a problem.
_PARTS = ("redis", "redisjson", "listener")


#: What was wrong with a Redis when it was last asked.
_reported: WeakKeyDictionary[PartitionGroup, str] = WeakKeyDictionary()


def readiness(partitions: Partitions, hub: Hub, worker_timeout: float) -> tuple[bool, dict[str, Any]]:
    """Whether this process can serve, and the state of each part: `ok`, or the problem.

    Of several Redis one that works is enough: the sessions of the others are not served better by another process. The
    problem names those that do not work by their place in REDIS_URL.

    Reported, but not required: `workers`, those with a liveness signal in the last `worker_timeout` seconds;
    `workers_silent`, those without one that have not shut down; `canary`, the seconds since the last signal.
    """
    parts: dict[str, Any] = dict.fromkeys(_PARTS, "ok")
    parts.update(workers=None, workers_silent=None, canary=None)
    states = _states(partitions, hub)
    for name in _PARTS:
        parts[name] = _summary([state[name] for state in states])
    if states[0]["redis"] in ("ok", redis_memory.FULL) and states[0]["redisjson"] == "ok":
        try:
            workers = liveness.read_workers(partitions.home.client, worker_timeout)
            age = None if workers.newest_age is None else round(workers.newest_age, 1)
            parts.update(workers=workers.alive, workers_silent=workers.silent, canary=age)
        except StoreUnavailable as error:
            logger.warning("readyz: %s", error)
    ready = any(map(_works, states))
    return ready, {"status": "ready" if ready else "not ready", **parts}


def report_redis(urls: Sequence[str]) -> None:
    """Logs what keeps each Redis from being used: web processes accept no messages for it, and go on."""
    for number, url in enumerate(urls, 1):
        use = check_use(url, SESSION_COMMANDS, "REDIS_URL")
        which = f" of Redis {number} of {len(urls)}" if len(urls) > 1 else ""
        if use.problem:
            logger.error("no messages%s are accepted: %s", which, use.problem)
        elif use.advice:
            logger.warning("messages%s may be lost: %s", which, use.advice)


def report_broker(url: str, variable: str) -> None:
    """Logs what keeps Flower from using its broker, if that is Redis: it goes on, and shows nothing."""
    if is_amqp(url):
        return
    # Celery's transport writes the name of Flower's queue there.
    binding = f"{CLUSTER_PREFIX if is_cluster(url) else ''}_kombu.binding.celeryev"
    if problem := check_use(url, f"SADD {binding} x", variable).problem:
        logger.error("Flower shows no worker and no task: %s", problem)


def _states(partitions: Partitions, hub: Hub) -> list[dict[str, str]]:
    """The state of each group. Once one works, the others have `_PATIENCE` seconds: a probe has a time limit."""
    pool = ThreadPoolExecutor(len(partitions.groups), "readiness")
    calls = [pool.submit(_state, hub, group) for group in partitions.groups]
    pool.shutdown(wait=False)
    wait(calls, _PATIENCE)
    if not any(call.done() and _works(call.result()) for call in calls):
        wait(calls)
    return [call.result() if call.done() else _SILENT for call in calls]


def _works(state: dict[str, str]) -> bool:
    return all(state[name] == "ok" for name in _PARTS)


def _state(hub: Hub, group: PartitionGroup) -> dict[str, str]:
    """The state of each part that a group needs."""
    found = dict.fromkeys(_PARTS, "ok")
    try:
        problem = find_problem(group.client, SESSION_COMMANDS, "REDIS_URL")
        if problem:
            _report(group, problem)
            found["redisjson" if problem == JSON_MISSING else "redis"] = problem
            if problem != JSON_MISSING:
                found["redisjson"] = "unknown"
        elif redis_memory.read_memory(group.client).full:
            found["redis"] = redis_memory.FULL
        else:
            _reported.pop(group, None)
    except (redis.RedisError, StoreUnavailable) as error:
        _report(group, str(error))
        found.update(redis=_SILENT["redis"], redisjson="unknown")
    if not hub.wait_until_hearing(_FIRST_HEARTBEAT if found["redis"] == "ok" else 0.1, group):
        found["listener"] = _DEAF
    return found


def _report(group: PartitionGroup, problem: str) -> None:
    """Logs a problem once: probes ask several times a second."""
    if _reported.get(group) != problem:
        _reported[group] = problem
        logger.warning("readyz: %s", problem)


def _summary(states: Sequence[str]) -> str:
    """The state of the only Redis, or what is wrong with which of several."""
    if len(states) == 1:
        return states[0]
    problems = [f"Redis {number} of {len(states)} {state}" for number, state in enumerate(states, 1) if state != "ok"]
    return "; ".join(problems) or "ok"
