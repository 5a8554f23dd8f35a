"""The errors of redis-py, as this program raises them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from chatbot.errors import StoreUnavailable


@contextmanager
def store_errors(step: str) -> Iterator[None]:
    """Raises `StoreUnavailable` in place of a `redis.RedisError`; `step` says in the log what failed."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreUnavailable(f"{step}: {type(error).__name__}: {error}") from error
