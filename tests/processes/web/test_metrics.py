"""`/metrics` of real processes, and that dashboard and alerts use only metrics that exist."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests
from prometheus_client.parser import text_string_to_metric_families

from chatbot.sessions.ids import session_id
from chatbot.telemetry.counters import MODEL_ERRORS, OTHER, REPLY_TIME, Counts, families, sums
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, Closed
from devtools.harness.deployment import Deployment, eventually
from devtools.paths import ROOT

MONITORING = ROOT / "docs" / "monitoring"
#: Written by Prometheus itself.
THEIRS = {"up", "ALERTS"}


def scrape(url: str, **headers: str) -> dict[str, float]:
    """Every sample by its name and labels, as they stand in the text."""
    response = requests.get(f"{url}/metrics", headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, f"{key} occurs twice"
            found[key] = sample.value
    return found


@pytest.fixture(scope="module")
def two_processes(model: ModelServer) -> Iterator[Deployment]:
    """One gunicorn with two web processes, whose /metrics asks for a token; at most three sockets each."""
    with Deployment(model.url, web_concurrency=2, metrics_token="sesame", max_sockets=3) as deployment:
        eventually(lambda: processes(deployment) == 2, what="both processes are counted")
        yield deployment


def processes(deployment: Deployment) -> float:
    return scrape(deployment.url(), Authorization="Bearer sesame")["chatbot_web_processes"]


@pytest.fixture(scope="module")
def lone(model: ModelServer) -> Iterator[Deployment]:
    """A process of each kind, which tests may stop and start. The worker reports its counts every second."""
    with Deployment(model.url, worker_health_timeout=4) as deployment:
        yield deployment


def test_all_is_counted_once_and_shown_by_every_web_host(model: ModelServer) -> None:
    # In a shared deployment, a worker may still hold counts of earlier tests.
    with Deployment(model.url, webs=2, workers=2, model_attempts=2) as chat:
        for path in ("/healthz", "/no/such/path", "/healthz"):
            requests.get(chat.url() + path, timeout=30)
        with ChatClient(chat.url()) as client:
            client.ask("!tokens=5 count me", "m1")
            # A worker records its load every few seconds.
            eventually(lambda: scrape(chat.url())["chatbot_replies_in_progress"] == 0, what="no reply is in progress")
            now = scrape(chat.url())
            assert now["chatbot_web_sockets"] == 1
            assert now["chatbot_workers"] == 2
            assert now["chatbot_expected_wait_seconds"] == 0
            assert now["chatbot_web_redis_up"] == now["chatbot_web_broker_up"] == now["chatbot_web_processes"] == 1
            # Each worker has 500 slots, and one for every eight besides.
            eventually(lambda: scrape(chat.url())["chatbot_worker_slots"] == 2 * 562, what="both record their load")
            client.ask("!tokens=7 !fault=server_error*1 please")
            client.send("!fault=unauthorized no", "m3")
            client.until("error")
            client.send("", "m4")
            client.until("error")
        check_http_times_and_memory(chat)
        # Workers report all their counts at shutdown.
        chat.workers[1].stop()
        now = scrape(chat.url())
        assert sum(key.startswith("chatbot_worker_memory_bytes") for key in now) == 1
        chat.workers[0].stop()
        one, other = (scrape(chat.url(web)) for web in (0, 1))
    for name, count in (("messages_accepted_total", 3), ("sessions_created_total", 1)):
        assert one[f"chatbot_web_{name}"] == count
        assert other[f"chatbot_web_{name}"] == 0
    assert one["chatbot_web_messages_refused_total{code=empty_message}"] == 1
    for name, count in (
        ("chatbot_replies_total{outcome=stop}", 2),
        ("chatbot_replies_total{outcome=failed}", 1),
        ("chatbot_reply_seconds_count", 2),
        ("chatbot_reply_first_token_seconds_count", 2),
        ("chatbot_reply_first_token_seconds_bucket{le=+Inf}", 2),
        ("chatbot_reply_pieces_total", 12),
        ("chatbot_model_errors_total{kind=server_error}", 1),
        ("chatbot_model_errors_total{kind=unauthorized}", 1),
        ("chatbot_retries_total{reason=error}", 1),
    ):
        assert one[name] == other[name] == count, name


def check_http_times_and_memory(chat: Deployment) -> None:
    now = scrape(chat.url())
    times = {key: value for key, value in now.items() if key.startswith("chatbot_web_request_seconds_count")}
    assert times["chatbot_web_request_seconds_count{route=/healthz}"] == 2
    assert times["chatbot_web_request_seconds_count{route=none}"] == 1
    assert not any("/chat" in key or "no/such" in key for key in times)
    web = [value for key, value in now.items() if key.startswith("chatbot_web_memory_bytes")]
    workers = [value for key, value in now.items() if key.startswith("chatbot_worker_memory_bytes")]
    assert (len(web), len(workers)) == (1, 2)
    assert all(20e6 < value < 1e9 for value in (*web, *workers))
    assert abs(now["chatbot_web_event_loop_ran_timestamp_seconds"] - time.time()) < 20


def test_no_token_text_or_session_stands_in_metrics(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.ask("what a secret, unmistakably")
        text = requests.get(chat.url() + "/metrics", timeout=30).text
    assert client.token not in text
    assert session_id(client.token) not in text
    assert "unmistakably" not in text


def test_metrics_ask_for_the_token(two_processes: Deployment) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
        refused = requests.get(two_processes.url() + "/metrics", headers=headers, timeout=30)
        assert refused.status_code == 401
        assert "chatbot_" not in refused.text
    assert processes(two_processes) == 2


def greeted(client: ChatClient) -> bool:
    """Whether the socket was served; the kernel chooses the process, which may be full."""
    try:
        return bool(client.receive()["type"] == "session")
    except Closed:
        return False


def test_processes_of_one_host_are_added_up_and_the_sockets_of_a_killed_one_are_gone(
    two_processes: Deployment,
) -> None:
    def now() -> dict[str, float]:
        return scrape(two_processes.url(), Authorization="Bearer sesame")

    clients = [ChatClient(two_processes.url()) for _ in range(4)]
    served = [client for client in clients if greeted(client)]
    counts = now()
    assert counts["chatbot_web_sockets"] == len(served)
    assert counts["chatbot_web_sessions_created_total"] == 4
    for pid in children(two_processes.webs[0].pid):
        os.kill(pid, signal.SIGKILL)
    for client in clients:
        client.cut()
    eventually(two_processes.ready, what="new processes serve")
    eventually(lambda: processes(two_processes) == 2, what="both processes are back")
    counts = now()
    assert counts["chatbot_web_sockets"] == 0
    assert counts["chatbot_web_sessions_created_total"] == 4


def test_the_folder_of_a_killed_master_is_removed_at_a_start_and_the_own_one_at_the_end(
    model: ModelServer, tmp_path: Path
) -> None:
    left, young, held = (tmp_path / f"chatbot-metrics-{name}" for name in ("left", "young", "held"))
    for folder in (left, young, held):
        folder.mkdir()
        (folder / "counter_1.db").touch()
    for folder in (left, held):
        os.utime(folder, (0, 0))
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with Deployment(model.url, workers=0, tmpdir=tmp_path) as chat:
        assert chat.ready()
        assert [folder.exists() for folder in (left, young, held)] == [False, True, True]
        assert len(list(tmp_path.iterdir())) > 2
        chat.webs[0].stop()
        assert sorted(tmp_path.iterdir()) == sorted((young, held))
    os.close(descriptor)


def test_counts_survive_the_worker(lone: Deployment) -> None:
    replies = "chatbot_replies_total{outcome=stop}"
    with ChatClient(lone.url()) as client:
        client.ask("one")
        eventually(lambda: scrape(lone.url()).get(replies) == 1, what="the worker reports the reply")
        lone.workers[0].restart()
        # Recovery may answer before the worker is ready; a worker that ends before that reports nothing.
        lone.wait_until_worker(0)
        client.ask("two")
        # A worker reports its counts on shutdown.
        lone.workers[0].stop()
    assert scrape(lone.url())[replies] == 2


def test_what_waits_for_a_worker_the_time_to_an_ack_and_the_lag_of_the_event_loop_are_shown(lone: Deployment) -> None:
    lone.workers[0].kill()
    with ChatClient(lone.url()) as client:
        counts = scrape(lone.url())
        acks = counts["chatbot_web_ack_seconds_count"]
        assert counts["chatbot_queue_delay_seconds"] == counts["chatbot_ledger_sessions"] == 0
        client.send("is anybody there?", "m1")
        client.until("ack")
        eventually(lambda: scrape(lone.url())["chatbot_web_ack_seconds_count"] == acks + 1)
        # Ten samples a second, nearly all of them of a few ms.
        eventually(lambda: scrape(lone.url())["chatbot_web_event_loop_lag_seconds_count"] > 10)
        found = scrape(lone.url())
        lag, samples = (found[f"chatbot_web_event_loop_lag_seconds_{name}"] for name in ("sum", "count"))
        assert lag < samples
        eventually(lambda: scrape(lone.url())["chatbot_queue_delay_seconds"] > 0.3)
        assert scrape(lone.url())["chatbot_ledger_sessions"] == 1
        lone.workers[0].start()
        client.until("message", reply_to="m1")
        eventually(lambda: scrape(lone.url())["chatbot_queue_delay_seconds"] == 0)
        eventually(lambda: scrape(lone.url())["chatbot_ledger_sessions"] == 0)


def test_without_redis_the_other_metrics_are_shown_in_time(lone: Deployment) -> None:
    for fault in (signal.SIGSTOP, signal.SIGKILL):
        lone.redis.signal(fault)
        began = time.monotonic()
        response = requests.get(lone.url() + "/metrics", timeout=30)
        # A scraper waits for ten seconds.
        assert time.monotonic() - began < 10
        assert "chatbot_web_redis_up 0.0" in response.text
        assert "chatbot_web_broker_up 0.0" in response.text
        assert "chatbot_web_sockets 0.0" in response.text
        assert "chatbot_workers " not in response.text
    lone.redis.restart()
    eventually(lone.ready, what="the web process is ready again")


def test_a_label_holds_no_value_chosen_by_a_model_server(redis_client: redis.Redis) -> None:
    counts = Counts()
    counts.add(MODEL_ERRORS, "x" * 1000)
    counts.add(MODEL_ERRORS, "timeout")
    counts.observe(REPLY_TIME, 0.25)
    counts.observe(REPLY_TIME, 1000)
    counts.flush(redis_client)
    counts.flush(redis_client)
    found = {(s.name, *s.labels.values()): s.value for family in families(sums(redis_client)) for s in family.samples}
    assert found["chatbot_model_errors_total", OTHER] == found["chatbot_model_errors_total", "timeout"] == 1
    assert found["chatbot_reply_seconds_bucket", "0.1"] == 0
    assert found["chatbot_reply_seconds_bucket", "0.25"] == found["chatbot_reply_seconds_bucket", "120"] == 1
    assert found["chatbot_reply_seconds_count",] == 2
    assert found["chatbot_reply_seconds_sum",] == 1000.25


OF_API_KEYS = ("chatbot_api_key_requests_total", "chatbot_api_key_tokens_total")


def test_the_documentation_lists_every_metric_and_no_other(chat: Deployment) -> None:
    table = (ROOT / "docs" / "operations.md").read_text("utf-8").split("| metric | what |")[1].split("\n\n")[0]
    documented = {name for row in table.splitlines()[1:] for name in re.findall(r"`(chatbot_\w+)", row.split("|")[1])}
    there = {re.sub(r"_(bucket|sum|count)$", "", name.partition("{")[0]) for name in scrape(chat.url())}
    there = {name for name in there if name.startswith("chatbot_")}
    # Counted by labels that come with the first one.
    there |= {"chatbot_web_requests_refused_total", "chatbot_web_feedback_total", *OF_API_KEYS}
    assert documented == there


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_every_metric_that_is_asked_for_exists(chat: Deployment, file: str) -> None:
    text = re.sub("#.*", "", (MONITORING / file).read_text("utf-8"))
    asked = set(re.findall(r"\b(chatbot_\w+)\b", text))
    assert len(asked) > 10
    there = {name.partition("{")[0] for name in scrape(chat.url())}
    # Counted by labels that come with the first refusal, and the first API key.
    there |= {"chatbot_web_requests_refused_total", *OF_API_KEYS}
    assert asked - there == set()


def test_the_dashboard_can_be_loaded_and_shows_every_metric(chat: Deployment) -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    asked = " ".join(target["expr"] for panel in panels for target in panel.get("targets", ()))
    for name in scrape(chat.url()):
        metric = name.partition("{")[0]
        if metric.startswith("chatbot_") and not metric.endswith(("_sum", "_count")):
            assert metric in asked, metric


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
