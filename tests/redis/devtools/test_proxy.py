"""The proxy that breaks the network between the processes and Redis."""

from __future__ import annotations

from urllib.parse import urlsplit

import redis

from chatbot.store.access import SESSION_COMMANDS, find_problem
from chatbot.store.client import connect
from devtools.harness.proxy import Proxy


def test_only_a_subscription_marks_a_connection_as_one(redis_client: redis.Redis, redis_url: str) -> None:
    assert redis_client.ping()
    with Proxy(urlsplit(redis_url).port or 0) as proxy:
        client = connect(f"redis://127.0.0.1:{proxy.port}/0", 2)
        # Neither a comment that has the word nor the check of rights.
        client.script_load("-- A process subscribes to its channel.\nreturn redis.call('PUBSUB', 'NUMSUB', 'x')")
        assert find_problem(client, SESSION_COMMANDS, "REDIS_URL") is None
        assert proxy.half_open(lambda link: link.subscribed) == 0
        with client.pubsub() as subscriber:
            subscriber.subscribe("x")
            assert subscriber.get_message(timeout=30.0)["type"] == "subscribe"
            assert proxy.half_open(lambda link: link.subscribed) == 1
        assert client.ping() is True
        client.connection_pool.disconnect()
