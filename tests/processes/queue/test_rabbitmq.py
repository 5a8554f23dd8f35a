"""The promise with RabbitMQ as the broker, against a real one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chatbot.worker import start_checks
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history, texts
from devtools.harness.deployment import eventually
from devtools.harness.rabbit_deployment import RabbitDeployment, missing_rabbitmq
from tests.processes.web.test_metrics import scrape


@pytest.fixture(scope="module")
def rabbit(model: ModelServer) -> Iterator[RabbitDeployment]:
    if problem := missing_rabbitmq():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(problem)
    with RabbitDeployment(model.url, workers=2) as deployment:
        yield deployment


def test_a_conversation_goes_through_the_queue(rabbit: RabbitDeployment) -> None:
    with ChatClient(rabbit.url()) as client:
        assert [client.ask(f"!say={n}")["msg"] for n in range(3)] == ["0", "1", "2"]
    eventually(lambda: scrape(rabbit.url())["chatbot_queue_tasks"] == 0, what="the tasks are done")
    assert scrape(rabbit.url())["chatbot_web_broker_up"] == 1
    # By a task each, not by recovery, which would answer as well, two seconds later.

    def replied() -> list[str]:
        return [line for worker in rabbit.workers for line in worker.lines if "replied with" in line]

    eventually(lambda: len(replied()) == 3, what="each reply is logged")
    assert all('"task_id"' in line for line in replied())


@pytest.mark.parametrize(
    ("login", "host", "refused"),
    [("guest:guest", "%2F", False), ("guest:wrong", "%2F", True), ("guest:guest", "no", True)],
)
def test_a_refused_login_and_a_missing_virtual_host_differ_from_a_broker_that_is_away(
    rabbit: RabbitDeployment, login: str, host: str, refused: bool
) -> None:
    # Celery would end the worker, with a trace.
    assert start_checks._refuses(f"amqp://{login}@127.0.0.1:{rabbit.rabbitmq_port}/{host}") is refused
    assert not start_checks._refuses(f"amqp://{login}@127.0.0.1:9/{host}")


def test_messages_are_answered_while_the_broker_is_away_and_after_it_is_back(rabbit: RabbitDeployment) -> None:
    with ChatClient(rabbit.url()) as client:
        client.ask("hello", "m1")
        rabbit.rabbitmq.kill()
        assert client.ask("!say=still here", "m2")["msg"] == "still here"
        rabbit.rabbitmq.start()
        rabbit.wait_for_rabbitmq()
        assert client.ask("!say=back", "m3")["msg"] == "back"
        assert len(texts(history(rabbit.url(), client.token), "bot")) == 3
