"""The parts of Celery that this project replaces: the worker's consumer, the event dispatcher.

`worker/process.py` puts them into the app's settings.
"""

from __future__ import annotations

from typing import Any

from celery.app.events import Events
from celery.events import EventDispatcher
from celery.worker import consumer

#: Events that are sent without waiting for the next heartbeat: some MB.
_MAX_BUFFERED_EVENTS = 5000


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
