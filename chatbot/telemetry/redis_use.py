"""What an operator must know of a Redis when a process starts: why it cannot be used, and what may lose messages."""

from __future__ import annotations

from typing import NamedTuple

import redis

from chatbot.errors import StoreUnavailable
from chatbot.store.access import find_problem, unreachable
from chatbot.store.client import connect
from chatbot.telemetry.redis_memory import FULL, read_memory

_EVICTS = "Redis evicts keys when it is full, and accepted messages with them: set its maxmemory-policy to noeviction"


class RedisUse(NamedTuple):
    """What was found, in sentences; None for nothing."""

    problem: str | None = None
    advice: str | None = None
    answers: bool = True


def check_use(url: str, commands: str, variable: str) -> RedisUse:
    """Asks the Redis at a URL, which `variable` names, whether it can be used for `commands` of access.py."""
    client = connect(url, 1, retries=0)
    try:
        if problem := find_problem(client, commands, variable):
            return RedisUse(problem)
        memory = read_memory(client)
    except redis.RedisError as error:
        return RedisUse(unreachable(error, url, variable), answers=False)
    except StoreUnavailable:
        # A broker's user may lack the right to INFO.
        return RedisUse()
    finally:
        client.connection_pool.disconnect()
    return RedisUse(f"Redis is {FULL}" if memory.full else None, _EVICTS if memory.evicts else None)
