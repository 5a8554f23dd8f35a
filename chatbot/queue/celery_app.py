"""The Celery app that web and worker share: where the broker is, how tasks are named, how long publishing may take."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection

from chatbot.config import Settings
from chatbot.queue import transport

GENERATE_REPLY = "chatbot.generate_reply"
SWEEP = "chatbot.sweep"
CANARY = "chatbot.canary"

#: Seconds. A broker that does not take a task by then is down: the ledger has the message, the sweep sends it.
PUBLISH_TIMEOUT = 2.0
#: Seconds of silence after which a broker counts as gone: BRPOP answers every second.
_SOCKET_TIMEOUT = 5.0
#: Seconds between two looks at whether the broker still answers.
_HEALTH_CHECK_INTERVAL = 3
#: Seconds between attempts to reach a broker that is away: at first, and at most.
_FIRST_RETRY, _LONGEST_RETRY = 0.5, 2.0


class _Connection(Connection):
    """Looks for a lost broker every two seconds, not every thirty: people wait for it."""

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
    """A Celery app that can publish; it connects at its first task."""
    transport.install()
    celery = Celery("chatbot", amqp=_AMQP, set_as_current=False)
    url, transport_options, use_ssl = transport.address(settings.redis.broker_url)
    celery.conf.update(
        broker_url=url,
        broker_use_ssl=use_ssl,
        broker_connection_timeout=PUBLISH_TIMEOUT,
        broker_pool_limit=10,
        broker_pool_acquire_timeout=PUBLISH_TIMEOUT,
        broker_transport_options={
            # The ledger has what is not done yet: see broker.py.
            "ack_emulation": False,
            "socket_connect_timeout": PUBLISH_TIMEOUT,
            "socket_timeout": _SOCKET_TIMEOUT,
            "socket_keepalive": True,
            "health_check_interval": _HEALTH_CHECK_INTERVAL,
            **transport_options,
        },
        task_ignore_result=True,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
    )
    return celery
