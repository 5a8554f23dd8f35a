"""The pub/sub connection of a process, with a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from chatbot.store import listener as listener_module
from chatbot.store.client import connect
from chatbot.store.listener import LISTENER_CONNECTIONS, Listener
from devtools.harness.deployment import eventually

Received = list[tuple[str, str]]


@pytest.fixture
def received() -> Received:
    return []


@pytest.fixture
def listener(redis_url: str, received: Received) -> Iterator[Listener]:
    client = connect(redis_url, LISTENER_CONNECTIONS, retries=0)

    def receive(channel: str, data: str) -> None:
        received.append((channel, data))
        if data == "bad":
            raise ValueError(data)

    found = Listener(client, receive)
    yield found
    found.close()
    client.connection_pool.disconnect()


def publish(client: redis.Redis, *messages: str) -> None:
    """All in one transaction, so that they arrive together."""
    with client.pipeline(transaction=True) as pipeline:
        for message in messages:
            pipeline.publish("chat:test", message)
        pipeline.execute()


def test_messages_that_arrive_together_are_handled_once_and_in_order(
    listener: Listener, received: Received, redis_client: redis.Redis
) -> None:
    assert listener.subscribe("chat:test", 20)
    # More bytes than one read takes, so that one read ends within a message.
    messages = [f"{number} " + "x" * 100 for number in range(2000)]
    publish(redis_client, *messages)
    eventually(lambda: len(received) == len(messages), what="all messages")
    assert received == [("chat:test", message) for message in messages]


def test_a_message_that_cannot_be_handled_does_not_take_those_behind_it_along(
    listener: Listener, received: Received, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    assert listener.subscribe("chat:test", 20)
    publish(redis_client, "one", "bad", "two")
    eventually(lambda: len(received) == 3, what="all messages")
    assert "a message on chat:test could not be handled" in caplog.text


def test_subscriptions_are_confirmed_between_messages(
    listener: Listener, received: Received, redis_client: redis.Redis
) -> None:
    assert listener.subscribe("chat:test", 20)
    for number in range(50):
        publish(redis_client, *["text"] * 20)
        assert listener.subscribe(f"chat:test:{number}", 20)
    eventually(lambda: len(received) == 1000, what="all messages")


def test_after_a_break_it_is_settled_once_other_processes_are_connected_again_too(
    listener: Listener, received: Received, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settled() -> bool:
        return listener.settled

    assert listener.subscribe("chat:test", 20)
    # Nothing broke: what starts anew need not wait.
    assert settled()
    monkeypatch.setattr(listener_module, "_SETTLING", 3600.0)
    redis_client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    eventually(lambda: not settled(), what="the break is noticed")

    def receives() -> bool:
        publish(redis_client, "again")
        return bool(received)

    eventually(receives, what="it is connected again")
    assert not settled()
    monkeypatch.setattr(listener_module, "_SETTLING", 0.0)
    redis_client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    eventually(settled, what="the time is over")
