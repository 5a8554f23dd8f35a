"""Asks each second who has what: a cluster's nodes for the slots, Sentinels for the master."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import redis

logger = logging.getLogger(__name__)

#: Seconds between two calls.
POLL_INTERVAL = 1.0


def poll(owner: Any, ask: Callable[[Any], object], name: str) -> None:
    """Starts a thread, `name`, that calls `ask(owner)` each second until `owner` is garbage-collected.

    What was known stays while no server answers.
    """
    threading.Thread(target=_poll, args=(weakref.ref(owner), ask, name), name=name, daemon=True).start()


def _poll(reference: weakref.ref[Any], ask: Callable[[Any], object], name: str) -> None:
    while True:
        time.sleep(POLL_INTERVAL)
        owner = reference()
        if owner is None:
            return
        try:
            ask(owner)
        except (redis.RedisError, OSError):
            logger.debug("%s: no server answers", name)
        except Exception:
            logger.exception("%s: the servers could not be asked", name)
        # The thread must not keep it alive.
        del owner
