"""Processes that are killed and started again, one after the other."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from devtools.harness.deployment import Deployment


def restart_in_turn(chat: Deployment, victims: Sequence[str], count: int, pause: float) -> None:
    """Kills a `worker`, a `web` or `redis` every `pause` seconds, as `victims` names them again and again."""
    workers, webs = itertools.cycle(chat.workers), itertools.cycle(chat.webs)
    for kind in itertools.islice(itertools.cycle(victims), count):
        time.sleep(pause)
        if kind == "redis":
            chat.redis.restart()
            chat.wait_for_redis()
        else:
            next(workers if kind == "worker" else webs).restart()
    chat.wait_until_ready()
