"""The enqueuer while the broker is away: the sessions are in a real Redis, the broker is a closed port."""

from __future__ import annotations

import redis

from chatbot.config import RedisSettings, Settings
from chatbot.queue.celery_app import create_celery
from chatbot.sessions.ids import session_id
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.messages import Sessions
from chatbot.store.keys import LEDGER, WAITING
from chatbot.store.partitions import Partitions
from chatbot.web.enqueue import Enqueuer
from devtools.harness.deployment import eventually, free_port


def test_a_session_whose_task_the_broker_does_not_take_is_due_at_once(
    redis_client: redis.Redis, sessions: Sessions
) -> None:
    found = [session_id(sessions.create("Ada")["token"]) for _ in range(3)]
    for session in found:
        sessions.accept(session, "m1", "hello")
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
