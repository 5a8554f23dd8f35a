"""The task that web and workers publish, in a real Redis."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import redis

from chatbot.config import RedisSettings, Settings
from chatbot.queue.celery_app import BROKER_ERRORS, GENERATE_REPLY, NEW, OWED, create_celery, publish_reply
from chatbot.queue.elements import task_elements
from devtools.harness.ports import free_port

SESSION = "0123456789abcdef" * 2


def published(client: redis.Redis) -> dict[str, Any]:
    """The one task in all queues, without what differs from task to task, and with its queue."""
    (queue,) = set(client.keys("celery*"))
    task: dict[str, Any] = json.loads(client.rpop(queue))  # type: ignore[arg-type]
    ids = {task["headers"].pop("id"), task["headers"].pop("root_id"), task["properties"].pop("correlation_id")}
    assert len(ids) == 1
    assert len(ids.pop()) == 36
    assert task["properties"].pop("delivery_tag")
    # Where results go, which are ignored, and a copy of what the headers hold.
    for name in ("reply_to", "argsrepr", "kwargsrepr"):
        task["properties"].pop(name, None)
    return {**task, "queue": queue, "body": json.loads(base64.b64decode(task["body"]))}


@pytest.mark.parametrize("priority", [OWED, NEW])
def test_a_published_task_is_what_celery_would_send(redis_url: str, redis_client: redis.Redis, priority: int) -> None:
    celery = create_celery(Settings(redis=RedisSettings(url=redis_url, broker_url=redis_url)))
    with celery.producer_pool.acquire(block=True) as producer:
        for _ in range(2):
            publish_reply(celery, SESSION, producer, priority)
            ours = published(redis_client)
        if priority == NEW:
            redis_client.lpush(*task_elements(celery)(SESSION))
            assert ours == published(redis_client)
        celery.send_task(
            GENERATE_REPLY,
            (SESSION,),
            argsrepr=f"('{SESSION}',)",
            kwargsrepr="{}",
            ignore_result=True,
            producer=producer,
            priority=priority,
            declare=(),
        )
        assert ours == published(redis_client)
    celery.close()


def test_publishing_fails_at_once_where_the_broker_refuses_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    celery = create_celery(Settings(redis=RedisSettings(broker_url=f"redis://127.0.0.1:{free_port()}/0")))
    pauses: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", pauses.append)
    with celery.producer_pool.acquire(block=True) as producer, pytest.raises(BROKER_ERRORS):
        publish_reply(celery, SESSION, producer)
    # kombu would pause, and try again for two seconds.
    assert pauses == []
    celery.close()
