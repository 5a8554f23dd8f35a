"""The processor time of Redis: what a step costs there, on a machine that others use too."""

from __future__ import annotations

from collections.abc import Callable

import redis


def processor_time(client: redis.Redis, step: Callable[[], object], rounds: int) -> float:
    """Seconds of processor time of Redis' main thread in so many rounds of a step."""
    before = _spent(client)
    for _ in range(rounds):
        step()
    return _spent(client) - before


def _spent(client: redis.Redis) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])
