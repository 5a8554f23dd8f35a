"""The parts of Celery that this project replaces: the worker's consumer, the event dispatcher.

`worker/process.py` puts them into the app's settings.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import celery.apps.worker
import redis
from celery.app.events import Events
from celery.events import EventDispatcher
from celery.worker import consumer
from kombu.message import Message

from chatbot import logs
from chatbot.config import Settings
from chatbot.queue.task_messages import is_call
from chatbot.queue.transport import RedisChannel

logger = logging.getLogger(__name__)

#: Events that are sent without waiting for the next heartbeat: some MB.
_MAX_BUFFERED_EVENTS = 5000
#: Seconds between two attempts after an error that Redis itself answered.
_REFUSED_INTERVAL = 2.0


class SoloConsumer(consumer.Consumer):  # type: ignore[misc]
    """Does not ask other workers for revoked tasks (mingle), nor listens to their heartbeats (gossip): both are unused.

    Mingle takes a second at each start and after each loss of the broker, in which no task is fetched.

    Makes no queues for tasks with a delay, which Celery would on RabbitMQ.

    Drops messages that call none of this project's tasks, over which Celery ends the worker or logs what they hold.
    """

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        default_steps = [step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "without_mingle": True, "without_gossip": True})

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        super().on_connection_error_after_connected(exc)
        if isinstance(exc, redis.ResponseError):
            # Redis answers and refuses, for example for want of a right: Celery would try again at once.
            time.sleep(_REFUSED_INTERVAL)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        receive = super().create_task_handler(*args, **kwargs)

        def receive_or_drop(message: Message) -> None:
            if self._is_expected(message):
                try:
                    receive(message)
                except (*self.connection_errors, *self.connection.channel_errors):
                    raise
                except Exception as error:  # noqa: BLE001 - one message must not end the worker
                    logger.warning("dropped a message that Celery could not read: %s", type(error).__name__)
                else:
                    return
            message.reject_log_error(logger, self.connection_errors)

        return receive_or_drop

    def call_soon_ack(self, p: Callable[[], Any], *args: Any, **kwargs: Any) -> Any:
        """Acknowledges a task in its own thread, where that only marks it: with Redis.

        Celery wakes its event loop for each acknowledgement, which a third of the loop's work was for. Here it is woken
        only if it may be waiting for a free slot.
        """
        channel = getattr(getattr(p, "__self__", None), "channel", None)
        if getattr(p, "__func__", None) is not Message.ack_log_error or not isinstance(channel, RedisChannel):
            return super().call_soon_ack(p, *args, **kwargs)
        p(*args, **kwargs)
        if channel.may_wait_for_slots():
            self.call_soon(_resume_fetching)
        return p

    def _is_expected(self, message: Message) -> bool:
        name = message.headers.get("task")
        if not isinstance(name, str):
            logger.warning("dropped a message that is not a task")
        elif name.startswith("celery.") or name not in self.app.tasks:
            logger.info("dropped a task that this version does not have")
        elif not is_call(message):
            logger.warning("dropped a task with other arguments or options than this version has")
        else:
            return True
        return False


def _resume_fetching() -> None:
    """What the event loop does in each iteration anyway."""


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


def log_notices(settings: Settings) -> None:
    """Has Celery's notices of signals, such as `worker: Warm shutdown`, logged; Celery writes them past everything."""

    def log_notice(text: object, *_: object) -> None:
        # Called in signal handlers, which may have interrupted the log's own locks.
        logs.write_now(settings, celery.apps.worker.__name__, str(text))

    celery.apps.worker.safe_say = log_notice
