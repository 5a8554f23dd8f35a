"""Celery's consumer, as this project needs it."""

from __future__ import annotations

from typing import Any

from celery.worker import consumer


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Does not ask its neighbours for revoked tasks, and does not listen to their heartbeats: nobody uses either.

    Asking takes a second at each start and after each loss of the broker, in which no task is taken.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "without_mingle": True, "without_gossip": True})
