"""Sends the worker's task events, for Flower, in batches: with each sign of life, every 2 s.

Celery gathers them as well, but sends what it has in every turn of its event loop: a publication for each task, which
was a quarter of a busy worker's CPU time.
"""

from __future__ import annotations

from typing import Any

from celery.app.events import Events
from celery.events import EventDispatcher

#: Events that are sent without waiting for the next sign of life: some MB.
_MOST = 5000


class BatchDispatcher(EventDispatcher):  # type: ignore[misc]
    """Keeps task events until another event is sent, or they are too many."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The callback is what wakes the event loop for each event.
        super().__init__(*args, **{**kwargs, "buffer_limit": _MOST, "on_send_buffered": None})

    def send(self, type: str, *args: Any, **kwargs: Any) -> Any:
        if self.buffer_group and not type.startswith("task-"):
            self.flush()
        return super().send(type, *args, **kwargs)


class BatchEvents(Events):  # type: ignore[misc]
    """For `Celery.events_cls`."""

    dispatcher_cls = f"{BatchDispatcher.__module__}:{BatchDispatcher.__name__}"
