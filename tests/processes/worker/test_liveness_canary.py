"""A worker that runs no tasks counts as silent; a busy one does not. Web's readiness without a listener."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from chatbot.config import RedisSettings, Settings
from chatbot.queue.celery_app import create_celery
from chatbot.store.access import LEAST_ACL
from chatbot.worker.health import main
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import START_TIMEOUT, USER, Deployment, eventually, running_redis
from devtools.paths import BIN

#: Seconds after which a worker counts as silent here.
TIMEOUT = 2.0


@pytest.fixture(scope="module")
def watched(model: ModelServer) -> Iterator[Deployment]:
    with Deployment(model.url, worker_concurrency=2, worker_health_timeout=TIMEOUT) as deployment:
        yield deployment


def health(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Exit status and output of the health check of containers, as of a process with these variables."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.setattr(os, "environ", env)
        return main(list(arguments)), output.getvalue()


def ready(chat: Deployment) -> dict[str, Any]:
    response = requests.get(chat.url() + "/readyz", timeout=30)
    # Silent workers do not make web unready.
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def test_a_worker_that_runs_tasks_is_healthy_under_its_name_and_its_host(watched: Deployment) -> None:
    host = socket.gethostname()
    for arguments in ((), ("worker0@%h",), (f"worker0@{host}",)):
        status, output = health(watched.env, *arguments)
        assert (status, "runs tasks" in output) == (0, True), output
    status, output = health(watched.env, "missing@%h")
    assert (status, output) == (1, f"no sign of missing@{host}\n")
    found = ready(watched)
    assert (found["workers"], found["workers_silent"]) == (1, 0)
    assert 0 <= found["canary"] <= TIMEOUT


def test_a_frozen_worker_is_noticed_in_time_and_when_it_wakes_up(watched: Deployment) -> None:
    watched.workers[0].signal(signal.SIGSTOP)
    try:

        def unnoticed() -> bool:
            found = ready(watched)
            # As soon as there was no sign for that long; the age is rounded.
            assert found["workers"] == (found["canary"] <= TIMEOUT) or abs(found["canary"] - TIMEOUT) < 0.1
            return bool(found["workers"])

        eventually(lambda: not unnoticed(), what="readyz counts no worker")
        assert ready(watched)["workers_silent"] == 1
        status, output = health(watched.env)
        assert status == 1
        assert "is SILENT" in output
    finally:
        watched.workers[0].signal(signal.SIGCONT)
    eventually(lambda: ready(watched)["workers"] == 1, what="the worker is back")
    assert health(watched.env)[0] == 0


def test_a_worker_that_is_busy_for_long_does_not_count_as_silent(watched: Deployment, model: ModelServer) -> None:
    model.control(tokens=100, hold=50)
    with ChatClient(watched.url()) as one, ChatClient(watched.url()) as other, ChatClient(watched.url()) as third:
        for client in (one, other):
            client.send("a long story")
        for client in (one, other):
            client.until("delta")
        # No thread is left for this one, nor for a canary.
        third.send("and me?")
        until = time.monotonic() + TIMEOUT * 1.8
        while time.monotonic() < until:
            assert ready(watched)["workers"] == 1
        assert health(watched.env)[0] == 0
        model.control(hold=None)
        for client in (one, other, third):
            client.until("message")


def test_a_worker_that_waits_for_a_silent_model_does_not_count_as_silent(
    watched: Deployment, model: ModelServer
) -> None:
    model.control(hold=0)
    with ChatClient(watched.url()) as one, ChatClient(watched.url()) as other:
        for client in (one, other):
            client.send("think")
            client.until("ack")
        model.wait_until(lambda found: len(found) == 2)
        until = time.monotonic() + TIMEOUT * 1.8
        while time.monotonic() < until:
            assert ready(watched)["workers"] == 1
        model.control(hold=None)
        for client in (one, other):
            client.until("message")


def test_a_worker_that_shuts_down_in_order_is_no_longer_listed(watched: Deployment) -> None:
    eventually(lambda: ready(watched)["workers"] == 1, what="the worker is alive")
    watched.workers[0].stop()
    try:
        found = ready(watched)
        assert (found["workers"], found["workers_silent"], found["canary"]) == (0, 0, None)
        assert watched.client.zcard("chat:workers") == 0
    finally:
        watched.workers[0].start()
        eventually(lambda: ready(watched)["workers"] == 1, START_TIMEOUT, "the worker is back")


def test_a_worker_whose_threads_are_stuck_counts_as_silent_and_ends_itself(watched: Deployment) -> None:
    name = f"stuck@{socket.gethostname()}"
    worker = watched.worker(7)
    app = ("-A", "tests.support.stuck_worker")
    worker.command = [str(BIN / "celery"), *app, "worker", "-n", name, "-Q", "celery,celery-stuck"]
    celery = create_celery(Settings(redis=RedisSettings(broker_url=watched.redis_url)))
    try:
        worker.start()
        eventually(lambda: ready(watched)["workers"] == 2, START_TIMEOUT, "the worker lives")
        assert health(watched.env, name)[0] == 0
        for _ in range(2):
            celery.send_task("tests.stuck", queue="celery-stuck")
        eventually(lambda: ready(watched)["workers_silent"] == 1, what="the stuck worker is noticed")
        # It still answers pings.
        assert celery.control.ping([name], timeout=30)
        assert health(watched.env, name)[0] == 1
        assert health(watched.env, "worker0@%h")[0] == 0
        eventually(lambda: not worker.running, what="it ends itself")
        assert "this worker runs no tasks any longer" in worker.log
    finally:
        worker.kill()
        celery.close()


def test_without_redis_the_state_of_a_worker_is_unknown(watched: Deployment) -> None:
    with running_redis() as url:
        env = {**watched.env, "REDIS_URL": url}
        assert health(env)[0] == 1
    status, output = health(env)
    assert status == 0
    assert output.startswith("unknown")


def test_a_right_that_redis_takes_away_makes_the_web_process_unready_and_is_named(watched: Deployment) -> None:
    try:
        # Redis answers every command, but delivers no messages.
        watched.client.execute_command("ACL", "SETUSER", USER, "resetchannels")
        answer = eventually(lambda: _unready(watched), what="the missing right is reported")
        assert "the channel chat:access for PUBLISH, SUBSCRIBE" in answer["redis"]
        assert "the channel chat:access for PUBLISH, SUBSCRIBE" in answer["error"]["message"]
    finally:
        watched.client.execute_command("ACL", "SETUSER", USER, *LEAST_ACL.split())
    eventually(watched.ready, what="the right is back")


def _unready(chat: Deployment) -> Any:
    response = requests.get(chat.url() + "/readyz", timeout=30)
    return response.status_code == 503 and response.json()
