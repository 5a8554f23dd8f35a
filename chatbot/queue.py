"""The Celery app that web and worker share: where the broker is, how tasks are named, how long publishing may take."""

from __future__ import annotations

from celery import Celery

from chatbot import broker
from chatbot.config import Settings

GENERATE_REPLY = "chatbot.generate_reply"
SWEEP = "chatbot.sweep"

#: Seconds. A broker that does not take a task by then is down: the ledger has the message, the sweep sends it.
_PUBLISH_TIMEOUT = 2.0


def create_celery(settings: Settings) -> Celery:
    """A Celery app that can publish; it connects at its first task."""
    broker.install()
    celery = Celery("chatbot", set_as_current=False)
    celery.conf.update(
        broker_url=settings.broker_url,
        broker_connection_timeout=_PUBLISH_TIMEOUT,
        broker_pool_limit=10,
        broker_pool_acquire_timeout=_PUBLISH_TIMEOUT,
        broker_transport_options={
            # The ledger has what is not done yet: see broker.py.
            "ack_emulation": False,
            "socket_connect_timeout": _PUBLISH_TIMEOUT,
            "socket_timeout": 10.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        task_ignore_result=True,
        task_publish_retry=False,
        task_serializer="json",
        accept_content=["json"],
    )
    return celery
