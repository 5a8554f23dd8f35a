"""The checks behind `/readyz`: whether this process can serve."""

from __future__ import annotations

import logging
from typing import Any

import redis

from chatbot.errors import StoreUnavailable
from chatbot.store.access import JSON_MISSING, SESSION_COMMANDS, find_problem
from chatbot.telemetry import liveness, redis_memory
from chatbot.web.hub import Hub

logger = logging.getLogger(__name__)

#: Seconds to wait for the listener's first heartbeat.
_FIRST_HEARTBEAT = 2.0
_DEAF = "does not hear its own heartbeat"


def readiness(client: redis.Redis, hub: Hub, worker_timeout: float) -> tuple[bool, dict[str, Any]]:
    """Whether all parts work, and the state of each: `ok`, or the problem.

    Reported, but not required: `workers`, how many gave a liveness signal within `worker_timeout` seconds,
    `workers_silent`, how many did not and did not shut down either, and `canary`, the seconds since the last signal.
    """
    parts: dict[str, Any] = {"redis": "ok", "redisjson": "ok", "listener": "ok"}
    parts.update(workers=None, workers_silent=None, canary=None)
    try:
        problem = find_problem(client, SESSION_COMMANDS, "REDIS_URL")
        if problem:
            logger.warning("readyz: %s", problem)
            parts["redisjson" if problem == JSON_MISSING else "redis"] = problem
            if problem != JSON_MISSING:
                parts["redisjson"] = "unknown"
            return False, {"status": "not ready", **parts, "listener": "ok" if hub.wait_until_hearing(0.1) else _DEAF}
        workers = liveness.read_workers(client, worker_timeout)
        age = workers.newest_age
        parts.update(workers=workers.alive, workers_silent=workers.silent, canary=age if age is None else round(age, 1))
        if redis_memory.read_memory(client).full:
            parts["redis"] = redis_memory.FULL
    except (redis.RedisError, StoreUnavailable) as error:
        logger.warning("readyz: %s", error)
        parts["redis"] = "does not answer"
        parts["redisjson"] = "unknown"
    if not hub.wait_until_hearing(_FIRST_HEARTBEAT if parts["redis"] == "ok" else 0.1):
        parts["listener"] = _DEAF
    ready = all(parts[name] == "ok" for name in ("redis", "redisjson", "listener"))
    return ready, {"status": "ready" if ready else "not ready", **parts}
