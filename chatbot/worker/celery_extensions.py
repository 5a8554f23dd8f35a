"""The parts of Celery that this project replaces: beat's scheduler, the worker's consumer, the event dispatcher.

`worker/process.py` puts them into the app's settings.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import beat
from celery.app.events import Events
from celery.events import EventDispatcher
from celery.worker import consumer

logger = logging.getLogger(__name__)

#: Events that are sent without waiting for the next heartbeat: some MB.
_MAX_BUFFERED_EVENTS = 5000


class MemoryScheduler(beat.Scheduler):  # type: ignore[misc]
    """Stores the schedule in memory, so that two beats on one machine share no file."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Logs one line, not a traceback, when the broker refuses a task: the next one is due soon."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except beat.SchedulingError as error:
            logger.warning("the broker took no task of the schedule: %s", error)


class SoloConsumer(consumer.Consumer):  # type: ignore[misc]
    """Does not ask other workers for revoked tasks (mingle), nor listens to their heartbeats (gossip): both are unused.

    Mingle takes a second at each start and after each loss of the broker, in which no task is fetched.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "without_mingle": True, "without_gossip": True})


class BatchDispatcher(EventDispatcher):  # type: ignore[misc]
    """Sends task events, for Flower, in batches: with each heartbeat, every 2 s, or when there are too many.

    Celery publishes buffered events in each iteration of its event loop, which took a quarter of a busy worker's CPU.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Celery's callback would wake the event loop for each event.
        super().__init__(*args, **{**kwargs, "buffer_limit": _MAX_BUFFERED_EVENTS, "on_send_buffered": None})

    def send(self, type: str, *args: Any, **kwargs: Any) -> Any:
        if self.buffer_group and not type.startswith("task-"):
            self.flush()
        return super().send(type, *args, **kwargs)


class BatchEvents(Events):  # type: ignore[misc]
    """Events with the `BatchDispatcher`; for `Celery.events_cls`."""

    dispatcher_cls = f"{BatchDispatcher.__module__}:{BatchDispatcher.__name__}"
