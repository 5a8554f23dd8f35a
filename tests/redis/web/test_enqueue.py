"""The enqueuer where the broker is a closed port, or the answer of the step that stores a message is lost."""

from __future__ import annotations

import pytest
import redis

from chatbot.config import RedisSettings, Settings
from chatbot.errors import StoreUnavailable
from chatbot.queue.celery_app import QUEUE, create_celery
from chatbot.sessions.ids import session_id
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import LEDGER, WAITING
from chatbot.store.partitions import Partitions
from chatbot.web.enqueue import Enqueuer
from devtools.harness.deployment import eventually
from devtools.harness.ports import free_port


def test_a_session_whose_task_the_broker_does_not_take_is_due_at_once(
    redis_client: redis.Redis, sessions: Sessions
) -> None:
    found = [session_id(sessions.create("Ada")["token"]) for _ in range(3)]
    for session in found:
        sessions.requests.accept(session, "m1", "hello")
    failures: list[int] = []
    celery = create_celery(Settings(redis=RedisSettings(broker_url=f"redis://127.0.0.1:{free_port()}/0")))
    enqueuer = Enqueuer(celery, Ledger(Partitions.single(redis_client)), lambda: failures.append(1))
    ready = redis_client.zrange(WAITING, 0, -1, withscores=True)
    assert len(ready) == len(found)
    for session in found:
        enqueuer.enqueue(session, "m1")
    eventually(lambda: len(failures) == len(found))
    # By the time at which they became ready: now, not some seconds after the message.
    eventually(lambda: redis_client.zrange(LEDGER, 0, -1, withscores=True) == ready)


def test_a_message_that_may_be_stored_is_enqueued(redis_url: str, redis_client: redis.Redis) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=8)
    session = session_id(sessions.create("Ada")["token"])
    without_replica = Sessions(redis_client, ttl=60, max_pending=8, wait_replicas=1)
    celery = create_celery(Settings(redis=RedisSettings(url=redis_url, broker_url=redis_url)))
    enqueuer = Enqueuer(celery, Ledger(Partitions.single(redis_client)))
    with pytest.raises(StoreUnavailable), enqueuer.in_doubt(session, "m1"):
        without_replica.requests.accept(session, "m1", "hello")
    # The repetition is acknowledged, and asks for no task.
    repeated = sessions.requests.accept(session, "m1", "hello")
    assert (repeated.repeated, repeated.wake) == (True, False)
    eventually(lambda: any(redis_client.llen(name) for name in redis_client.scan_iter(f"{QUEUE}*")))
    celery.close()
