"""The Celery app that web and worker share: the broker, the names of tasks, timeouts.

The options of workers are in `worker/process.py`.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection

from chatbot.config import Settings
from chatbot.queue import transport

GENERATE_REPLY = "chatbot.generate_reply"
CANARY = "chatbot.canary"

#: Priorities of `generate_reply`: workers take what is owed before what is new. Redis' transport has a list for each.
OWED, NEW = 0, 3

#: Seconds for publishing a task. After that the broker counts as down; the sweep enqueues the session again.
PUBLISH_TIMEOUT = 2.0
#: Seconds of silence after which the broker counts as down: BRPOP answers every second.
_SOCKET_TIMEOUT = 5.0
#: Seconds between two health checks of a connection.
_HEALTH_CHECK_INTERVAL = 3
#: Seconds between attempts to reconnect to the broker: at first, and at most.
_FIRST_RETRY, _LONGEST_RETRY = 0.5, 2.0


class _Connection(Connection):
    """Reconnects every two seconds, not every thirty, as users wait for replies."""

    def _ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        intervals = {
            "interval_start": _FIRST_RETRY,
            "interval_step": _FIRST_RETRY,
            "interval_max": _LONGEST_RETRY,
        }
        return super()._ensure_connection(*args, **{**intervals, **kwargs})  # type: ignore[no-untyped-call]


class _AMQP(AMQP):  # type: ignore[misc]
    Connection = _Connection


def create_celery(settings: Settings) -> Celery:
    """A Celery app that can publish tasks; it connects for the first one."""
    transport.install()
    celery = Celery("chatbot", amqp=_AMQP, set_as_current=False)
    url, transport_options, use_ssl = transport.celery_broker(settings.redis.broker_url)
    celery.conf.update(
        broker_url=url,
        broker_use_ssl=use_ssl,
        broker_connection_timeout=PUBLISH_TIMEOUT,
        broker_pool_limit=10,
        broker_pool_acquire_timeout=PUBLISH_TIMEOUT,
        broker_transport_options={
            # The ledger has unfinished work: see transport.py.
            "ack_emulation": False,
            "socket_connect_timeout": PUBLISH_TIMEOUT,
            "socket_timeout": _SOCKET_TIMEOUT,
            "socket_keepalive": True,
            "health_check_interval": _HEALTH_CHECK_INTERVAL,
            "priority_steps": [OWED, NEW],
            **transport_options,
        },
        task_ignore_result=True,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
    )
    return celery


def publish_reply(celery: Celery, session: str, producer: Any, priority: int = NEW) -> None:
    """Enqueues `generate_reply` for a session. Raises what kombu, redis-py and sockets raise."""
    celery.send_task(
        GENERATE_REPLY,
        (session,),
        # Celery would compute the same, for a tenth of the cost of publishing.
        argsrepr=f"('{session}',)",
        kwargsrepr="{}",
        ignore_result=True,
        producer=producer,
        priority=priority,
        # Redis creates the queue with its first task.
        declare=(),
    )
