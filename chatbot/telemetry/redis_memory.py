"""The memory of Redis, and whether it is full: at `maxmemory` it refuses every write and goes on to serve reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from chatbot.store.errors import store_errors

#: What `/readyz` and the health check say.
FULL = "full, writes are refused: raise maxmemory or let sessions expire earlier"


@dataclass(frozen=True)
class RedisMemory:
    """Bytes in use, `maxmemory`, 0 for no limit, and whether Redis makes room at that limit by removing keys."""

    used: int
    limit: int
    evicting: bool = False

    @property
    def full(self) -> bool:
        return 0 < self.limit <= self.used

    @property
    def evicts(self) -> bool:
        return self.limit > 0 and self.evicting


def read_memory(client: redis.Redis) -> RedisMemory:
    """The answer to INFO memory. Raises `StoreUnavailable`."""
    with store_errors("read_memory"):
        found: Any = client.info("memory")
    evicting = found.get("maxmemory_policy", "noeviction") != "noeviction"
    return RedisMemory(int(found.get("used_memory", 0)), int(found.get("maxmemory", 0)), evicting)
