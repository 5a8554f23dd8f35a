"""What users and operators learn while a part is away, and that all goes on by itself once it is back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from chatbot.store.client import connect
from chatbot.web.contracts.openai_operations import OPENAI_OPERATIONS
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history, new_session
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command
from tests.support.http_transports import post


@pytest.fixture(scope="module")
def breakable(model: ModelServer) -> Iterator[Deployment]:
    with Deployment(model.url) as deployment:
        yield deployment


def bring_back(chat: Deployment) -> None:
    chat.redis.start()
    chat.wait_for_redis()
    eventually(chat.ready, what="the web process is ready again")


def test_without_redis_every_request_is_refused_with_words_and_nothing_dies(breakable: Deployment) -> None:
    session = new_session(breakable.url())
    with ChatClient(breakable.url(), session["token"]) as client:
        client.receive()
        breakable.redis.kill()
        client.send("is anybody there?", "m1")
        refused = client.until("error")
        assert (refused["code"], refused["id"]) == ("unavailable", "m1")
        assert refused["retry_after"] > 0
        token = requests.post(breakable.url() + "/token", json={"name": "Ada"}, timeout=30)
        assert (token.status_code, token.json()["error"]["code"]) == (503, "unavailable")
        assert "Retry-After" in token.headers
        ended = requests.delete(breakable.url() + "/token", params={"token": session["token"]}, timeout=30)
        assert ended.status_code == 503
        assert post(breakable.url(), session["token"], "are you there?").status_code == 503
        message = {"id": "m1", "source": "human", "msg": "hello", "timestamp": "2026-01-02T03:04:05Z"}
        exported = {"name": "Ada", "messages": [message]}
        assert requests.post(breakable.url() + "/import", json=exported, timeout=30).status_code == 503
        for operation in OPENAI_OPERATIONS:
            if "503" in operation.answers:
                url = breakable.url() + operation.path.replace("{id}", "resp_" + "x" * 59)
                body = {"model": "m", "input": "hello", "messages": [{"role": "user", "content": "hello"}]}
                assert requests.request(operation.method, url, json=body, timeout=30).status_code == 503, url
        for path in ("/messages", "/events", "/refresh_token"):
            asked = requests.get(breakable.url() + path, params={"token": session["token"]}, timeout=30)
            assert (asked.status_code, asked.json()["error"]["code"]) == (503, "unavailable")
        assert requests.get(breakable.url() + "/healthz", timeout=30).status_code == 200
        ready = requests.get(breakable.url() + "/readyz", timeout=30)
        assert ready.status_code == 503
        assert "redis" in ready.json()["error"]["message"]
        assert ChatClient(breakable.url(), session["token"]).closed().code == 1013
        eventually(lambda: "could not sweep" in breakable.workers[0].log, what="the worker logs the missed sweep")
        bring_back(breakable)
        # The same socket, the same id.
        assert client.ask("is anybody there?", "m1")["reply_to"] == "m1"
    assert len(history(breakable.url(), session["token"])) == 2
    for process in breakable.processes:
        assert not process.traceback()


@pytest.fixture
def apart(model: ModelServer, tmp_path: Path) -> Iterator[tuple[Deployment, Process]]:
    """A deployment whose broker is a Redis of its own, and that Redis."""
    port = free_port()
    broker = Process("broker", redis_command(port, tmp_path), dict(os.environ), tmp_path / "log").start()
    try:
        with Deployment(model.url, celery_broker_url=f"redis://127.0.0.1:{port}/0") as chat:
            yield chat, broker
    finally:
        broker.kill()


def test_a_message_is_kept_though_the_broker_is_away(apart: tuple[Deployment, Process]) -> None:
    chat, broker = apart
    assert chat.client.keys("_kombu*") == []
    with ChatClient(chat.url()) as client:
        client.ask("is all well?")
        broker.signal(signal.SIGSTOP)
        try:
            # The second one does not wait for the first one's task either.
            for message in ("m1", "m2"):
                client.send("who hears me?", message)
                client.until("ack", id=message)
            # Publishing waits for the broker, and then fails.
            assert "the broker took no task" not in chat.webs[0].log
        finally:
            broker.signal(signal.SIGCONT)
        client.until("message", reply_to="m2")
        broker.kill()
        for message in ("m3", "m4"):
            client.send("who hears me?", message)
            client.until("ack", id=message)
        broker.start()
        for message in ("m3", "m4"):
            assert client.until("message")["reply_to"] == message


def test_tasks_are_published_again_once_the_broker_is_back(apart: tuple[Deployment, Process]) -> None:
    chat, broker = apart
    web = chat.webs[0]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(ChatClient(chat.url())) for _ in range(8)]
        clients[0].ask("is all well?")
        broker.kill()
        for client in clients:
            client.send("who hears me?", "m1")
            client.until("ack", id="m1")
        eventually(lambda: web.log.count("the broker took no task") >= len(clients), what="each was tried")
        # Without a worker, tasks stay in the queue.
        chat.workers[0].kill()
        broker.start()
        queue = stack.enter_context(contextlib.closing(connect(chat.env["CELERY_BROKER_URL"], 1)))

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(queue.ping())
            return False

        eventually(answers, what="the broker is back")
        later = [stack.enter_context(ChatClient(chat.url())) for _ in range(8)]
        for client in later:
            client.send("and me?")
            client.until("ack")

        def queued() -> int:
            return sum(int(queue.llen(name)) for name in queue.keys("celery*"))

        eventually(lambda: queued() >= len(later), what="each has its task")


def test_sockets_stay_open_while_redis_loads_its_data(model: ModelServer) -> None:
    # A minute for 8 000 keys unless the delay is lifted, with an ear for clients every 0.2 s.
    slowly = ("--key-load-delay", "8000", "--loading-process-events-interval-bytes", "1024")
    with Deployment(model.url, redis_args=slowly) as chat, ChatClient(chat.url()) as client:
        client.ask("is all well?")
        with chat.client.pipeline(transaction=False) as pipeline:
            for number in range(8000):
                pipeline.set(f"filler:{number}", "")
            pipeline.bgrewriteaof()
            pipeline.execute()
        eventually(lambda: not chat.client.info("persistence")["aof_rewrite_in_progress"], what="it is written anew")
        chat.redis.restart()
        eventually(lambda: chat.ready() or "BusyLoadingError" in chat.webs[0].log, what="a request during the loading")
        assert "BusyLoadingError" in chat.webs[0].log
        chat.client.config_set("key-load-delay", 0)
        eventually(chat.ready, what="the web process is ready again")
        assert client.ask("and now?", "m1")["reply_to"] == "m1"


def test_messages_accepted_while_no_worker_runs_are_answered_by_the_first_that_comes(breakable: Deployment) -> None:
    breakable.workers[0].kill()
    with ChatClient(breakable.url()) as client:
        client.send("early", "m1")
        client.until("ack")
        queued = eventually(lambda: breakable.client.keys("celery*"), what="the task is in the queue")
        breakable.client.delete(*queued)
        breakable.workers[0].start()
        assert client.until("message")["reply_to"] == "m1"


def test_a_frozen_redis_is_noticed_by_the_listener(breakable: Deployment) -> None:
    with ChatClient(breakable.url()) as client:
        client.receive()
        breakable.redis.signal(signal.SIGSTOP)
        try:
            answer = requests.get(breakable.url() + "/readyz", timeout=30)
            assert answer.status_code == 503
        finally:
            breakable.redis.signal(signal.SIGCONT)
        eventually(breakable.ready, what="the web process is ready again")
        assert client.ask("and now?", "m1")["reply_to"] == "m1"


def test_sockets_are_closed_with_a_reason_to_reconnect_when_the_web_process_ends(breakable: Deployment) -> None:
    clients = [ChatClient(breakable.url()) for _ in range(5)]
    for client in clients:
        client.receive()
    codes: list[int] = []
    readers = [threading.Thread(target=lambda c=c: codes.append(c.closed().code)) for c in clients]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    assert breakable.webs[0].stop() == 0
    took = time.monotonic() - began
    for reader in readers:
        reader.join()
    breakable.webs[0].start()
    eventually(breakable.ready, what="the web process is back")
    assert codes == [1001] * 5
    assert took < 10


def test_a_worker_that_gets_sigterm_hands_back_what_takes_too_long(model: ModelServer) -> None:
    with Deployment(model.url, worker_shutdown_timeout=1) as chat, ChatClient(chat.url()) as client:
        # The first attempt would never end, and the second one goes on from its words.
        model.control(tokens=60, hold=5)
        client.send("a long story", "m1")
        client.until("delta")
        successor = chat.worker(1)
        chat.workers.append(successor.start())
        eventually(lambda: chat.live_workers() == 2, what="the second worker lives")
        began = time.monotonic()
        chat.workers[0].stop()
        assert time.monotonic() - began < 10
        model.control(hold=None)
        reply = client.until("message")
        assert reply["finish_reason"] == "stop"
        assert len(reply["msg"].split()) == 60
        assert len(history(chat.url(), client.token)) == 2
