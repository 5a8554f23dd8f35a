"""Tasks as elements of a queue: what kombu's Redis transport writes into a list, without kombu.

So the step in Redis that stores a message can enqueue its task, too. That saves a round trip and most of the cost of
publishing.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable

from celery import Celery
from kombu.transport.redis import Channel

from chatbot.config.broker_urls import is_amqp
from chatbot.queue.celery_app import NEW, QUEUE, arguments, prepared_message

#: The list with the tasks of new messages.
NEW_TASKS = f"{QUEUE}{Channel.sep}{NEW}"

#: Stand in the template for what differs.
_TASK, _ARGUMENTS, _BODY = "<task>", "<arguments>", "<body>"


def task_elements(celery: Celery) -> Callable[[str], tuple[str, str]]:
    """A function that returns for a session the list, and the element that calls `generate_reply`.

    Raises `ValueError` when the broker is not Redis.
    """
    if is_amqp(celery.conf.broker_url):
        raise ValueError("RabbitMQ has no lists")
    prepared = prepared_message(celery)
    head, *rest = json.dumps(["<session>"]), *(json.dumps(part) for part in prepared.body[1:])
    before, after = f"[{head}".split("<session>")
    tail = f"{after}, {', '.join(rest)}]"
    element = json.dumps(
        {
            "body": _BODY,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**prepared.headers, "id": _TASK, "root_id": _TASK, "argsrepr": _ARGUMENTS},
            "properties": {
                "correlation_id": _TASK,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": NEW,
                "body_encoding": "base64",
                "delivery_tag": _TASK,
            },
        }
    )

    def element_of(session: str) -> tuple[str, str]:
        body = base64.b64encode(f"{before}{session}{tail}".encode()).decode()
        found = element.replace(_TASK, str(uuid.uuid4())).replace(_ARGUMENTS, arguments(session)).replace(_BODY, body)
        return NEW_TASKS, found

    return element_of
