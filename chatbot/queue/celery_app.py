"""The Celery app that web and worker share: the broker, the names of tasks, timeouts.

The broker is a Redis or RabbitMQ. The options of workers are in `worker/process.py`.
"""

from __future__ import annotations

import uuid
from functools import cache
from typing import Any

from amqp.exceptions import AMQPError
from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError
from redis import RedisError

from chatbot.config import Settings
from chatbot.config.broker_urls import is_amqp
from chatbot.queue import transport
from chatbot.queue.redis_broker import celery_broker

GENERATE_REPLY = "chatbot.generate_reply"
CANARY = "chatbot.canary"

QUEUE = "celery"
#: Priorities of `generate_reply`: workers take what is owed before what is new. Redis' transport has a list for each.
OWED, NEW = 0, 3
#: The same for RabbitMQ, where a larger number comes first. Quorum queues observe priorities since version 4; before,
#: only the slots for recovery go ahead.
_RABBITMQ_PRIORITIES = {OWED: 9, NEW: 0}
#: What publishing and asking the broker raise when it does not answer or refuses.
BROKER_ERRORS = (KombuError, RedisError, AMQPError, OSError)

#: Seconds for publishing a task. After that the broker counts as down; the sweep enqueues the session again.
PUBLISH_TIMEOUT = 2.0
#: Seconds of silence after which the broker counts as down: BRPOP answers every second.
_SOCKET_TIMEOUT = 5.0
#: Seconds between two health checks of a connection.
_HEALTH_CHECK_INTERVAL = 3
#: Seconds between attempts to reconnect to the broker: at first, and at most.
_FIRST_RETRY, _LONGEST_RETRY = 0.5, 1.0
#: Publishing fails at once where it cannot connect: kombu would try for two seconds, in which the tasks behind wait.
_PUBLISHING = {"max_retries": 0}
#: Seconds between two heartbeats of a worker's connection to RabbitMQ: after two without one it counts as lost.
HEARTBEAT = 5


class _Connection(Connection):
    """Reconnects every second, not every thirty, as users wait for replies."""

    def _ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        intervals = {
            "interval_start": _FIRST_RETRY,
            "interval_step": _FIRST_RETRY,
            "interval_max": _LONGEST_RETRY,
        }
        return super()._ensure_connection(*args, **{**intervals, **kwargs})  # type: ignore[no-untyped-call]


class _AMQP(AMQP):  # type: ignore[misc]
    Connection = _Connection


class _Celery(Celery):  # type: ignore[misc]
    """Has no heartbeats on connections that publish: kombu sends none while they are idle, and RabbitMQ closes them."""

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url, **{"heartbeat": 0, **options})


def create_celery(settings: Settings) -> Celery:
    """A Celery app that can publish tasks; it connects for the first one."""
    celery = _Celery("chatbot", amqp=_AMQP, set_as_current=False)
    celery.conf.update(
        broker_connection_timeout=PUBLISH_TIMEOUT,
        broker_pool_limit=10,
        broker_pool_acquire_timeout=PUBLISH_TIMEOUT,
        task_ignore_result=True,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
        **(_rabbitmq if is_amqp(settings.redis.broker_url) else _redis)(settings.redis.broker_url),
    )
    return celery


def _redis(broker_url: str) -> dict[str, Any]:
    transport.install()
    url, transport_options, use_ssl = celery_broker(broker_url)
    return {
        "broker_url": url,
        "broker_use_ssl": use_ssl,
        "broker_transport_options": {
            # The ledger has unfinished work: see transport.py.
            "ack_emulation": False,
            **_PUBLISHING,
            "socket_connect_timeout": PUBLISH_TIMEOUT,
            "socket_timeout": _SOCKET_TIMEOUT,
            "socket_keepalive": True,
            "health_check_interval": _HEALTH_CHECK_INTERVAL,
            "priority_steps": [OWED, NEW],
            **transport_options,
        },
    }


def _rabbitmq(broker_url: str) -> dict[str, Any]:
    """Quorum queues are on the disks of several nodes of RabbitMQ, where it has several."""
    quorum = {"x-queue-type": "quorum"}
    return {
        "broker_url": broker_url,
        "broker_transport_options": {
            **_PUBLISHING,
            # A task counts as published once RabbitMQ says that it has it.
            "confirm_publish": True,
            "confirm_timeout": PUBLISH_TIMEOUT,
            "read_timeout": _SOCKET_TIMEOUT,
            "write_timeout": _SOCKET_TIMEOUT,
        },
        "task_queues": [Queue(QUEUE, routing_key=QUEUE, queue_arguments=quorum)],
    }


def publish_reply(celery: Celery, session: str, producer: Any, priority: int = NEW) -> None:
    """Enqueues `generate_reply` for a session. Raises what kombu, redis-py and sockets raise."""
    if is_amqp(celery.conf.broker_url):
        celery.send_task(
            GENERATE_REPLY,
            (session,),
            # Celery would compute the same, for a tenth of the cost of publishing.
            argsrepr=arguments(session),
            kwargsrepr="{}",
            ignore_result=True,
            producer=producer,
            priority=_RABBITMQ_PRIORITIES[priority],
        )
        return
    # What `send_task` would send, for half of the cost: all but the ids and the argument is made once.
    message = prepared_message(celery)
    task = str(uuid.uuid4())
    producer.publish(
        ((session,), *message.body[1:]),
        routing_key=QUEUE,
        headers={**message.headers, "id": task, "root_id": task, "argsrepr": arguments(session)},
        correlation_id=task,
        reply_to="",
        serializer="json",
        priority=priority,
        # Redis creates the queue with its first task.
        declare=(),
    )


@cache
def prepared_message(celery: Celery) -> Any:
    """A message that calls `generate_reply`, as Celery makes it."""
    return celery.amqp.create_task_message("", GENERATE_REPLY, ("",), {}, kwargsrepr="{}", ignore_result=True)


def arguments(session: str) -> str:
    return f"('{session}',)"
