"""Whether this process can serve: what `/readyz` answers."""

from __future__ import annotations

import logging
import time
from typing import Any

import redis

from chatbot.store import WORKERS
from chatbot.web.hub import Hub

logger = logging.getLogger(__name__)

#: Seconds within which a worker must have given a sign of life to be counted: it gives one every 2 s.
_LATELY = 15.0
#: Seconds to wait for the listener's first heartbeat.
_FIRST_HEARTBEAT = 2.0


def readiness(client: redis.Redis, hub: Hub) -> tuple[bool, dict[str, Any]]:
    """Whether all parts work, and each part's state: `ok`, or what is wrong with it."""
    parts: dict[str, Any] = {"redis": "ok", "redisjson": "ok", "listener": "ok", "workers": None}
    try:
        client.ping()
        parts["workers"] = client.zcount(WORKERS, time.time() - _LATELY, "+inf")
        client.execute_command("JSON.TYPE", "chat:readyz")
    except redis.ResponseError as error:
        logger.warning("readyz: Redis answers %s", error)
        parts["redisjson"] = "RedisJSON is missing: use Redis 8, or load the module"
    except redis.RedisError as error:
        logger.warning("readyz: %s", error)
        parts["redis"] = "does not answer"
        parts["redisjson"] = "unknown"
    if not hub.wait_until_hearing(_FIRST_HEARTBEAT if parts["redis"] == "ok" else 0.1):
        parts["listener"] = "does not hear its own heartbeat"
    ready = all(parts[name] == "ok" for name in ("redis", "redisjson", "listener"))
    return ready, {"status": "ready" if ready else "not ready", **parts}
