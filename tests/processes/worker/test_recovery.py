"""What is owed goes ahead of what is new, over real processes: one slot, and a line in front of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment, eventually

#: Clients in line behind the first one. A reply takes about a second.
LINE = 8


@pytest.fixture(scope="module")
def narrow(model: ModelServer) -> Iterator[Deployment]:
    """A worker with one slot for all messages, and one for recovery."""
    with Deployment(model.url, worker_concurrency=1, max_queue_age=0) as chat:
        yield chat


@pytest.fixture
def clients(narrow: Deployment, model: ModelServer) -> Iterator[list[ChatClient]]:
    model.control(first=100, interval=45, tokens=20)
    found = [ChatClient(narrow.url()) for _ in range(LINE + 1)]
    yield found
    for client in found:
        client.cut()


def answered_in_order(clients: list[ChatClient]) -> list[int]:
    """The clients' numbers in the order of their replies."""
    order: list[int] = []

    def wait(number: int) -> None:
        clients[number].until("message", source="bot")
        order.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return order


def fill_the_line(clients: list[ChatClient]) -> None:
    for client in clients:
        client.send("And me?")
        client.until("ack")


@pytest.mark.alone
def test_the_reply_of_a_killed_worker_is_begun_again_ahead_of_the_line(
    narrow: Deployment, clients: list[ChatClient], model: ModelServer
) -> None:
    model.control(hold=5)
    clients[0].send("Tell me a story.")
    clients[0].until("delta")
    fill_the_line(clients[1:])
    narrow.workers[0].kill()
    model.control(hold=None)
    narrow.workers[0].start()
    order = answered_in_order(clients)
    assert order.index(0) < LINE / 2, order


@pytest.mark.alone
def test_a_retry_is_answered_ahead_of_the_line(narrow: Deployment, clients: list[ChatClient]) -> None:
    clients[0].send("!fault=failed_dependency*1 Tell me a story.")
    clients[0].until("status", state="retrying")
    fill_the_line(clients[1:])
    order = answered_in_order(clients)
    assert order.index(0) < LINE / 2, order


def test_a_lost_task_is_recovered_with_the_reply_of_a_killed_worker(
    narrow: Deployment, clients: list[ChatClient], model: ModelServer
) -> None:
    # The only slot is taken until the worker is killed.
    model.control(hold=5)
    clients[0].send("Tell me a story.")
    clients[0].until("delta")
    fill_the_line(clients[1:2])
    queued = eventually(lambda: narrow.client.keys("celery*"), what="the task is in the queue")
    narrow.client.delete(*queued)
    narrow.workers[0].kill()
    model.control(hold=None)
    narrow.workers[0].start()
    assert sorted(answered_in_order(clients[:2])) == [0, 1]


def test_a_worker_that_is_killed_while_the_model_thinks_loses_nothing(narrow: Deployment, model: ModelServer) -> None:
    thought = "hm " * 100 + "so"
    # In the middle of the thought until the worker is killed, and again so that it is seen to begin again.
    model.control(hold=40)
    with ChatClient(narrow.url()) as client:
        client.send(f"!say=<think>{thought}</think>Done")
        client.until("reasoning")
        with ChatClient(narrow.url(), client.token) as again:
            assert again.receive()["type"] == "session"
            caught_up = again.receive()
            assert (caught_up["type"], caught_up["offset"]) == ("reasoning", 0)
            assert thought.startswith(caught_up["msg"])
        narrow.workers[0].restart()
        client.until("reasoning", offset=0)
        model.control(hold=None)
        reply = client.until("message", source="bot")
        assert (reply["msg"], reply["reasoning"], reply["finish_reason"]) == ("Done", thought, "stop")
        begun = [frame for frame in client.of_type("reasoning") if frame["offset"] == 0]
        assert len(begun) == 2, "the thinking begins again"
