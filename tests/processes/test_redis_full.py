"""A full Redis refuses writes: each part says so, and nothing is restarted for it."""

from __future__ import annotations

import subprocess
import sys

import requests

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history
from devtools.harness.deployment import Deployment, eventually
from devtools.paths import ROOT


def test_a_full_redis_is_named_and_serves_reads(model: ModelServer) -> None:
    with Deployment(model.url, worker_health_timeout=2) as chat, ChatClient(chat.url()) as client:
        client.ask("is all well?", "m0")
        chat.client.config_set("maxmemory", 1)
        client.send("and now?", "m1")
        assert client.until("error", id="m1")["code"] == "unavailable"
        assert history(chat.url(), client.token)[0]["msg"] == "is all well?"
        answer = requests.get(chat.url() + "/readyz", timeout=30)
        assert answer.status_code == 503
        assert "redis: full" in answer.json()["error"]["message"]
        assert answer.json()["redisjson"] == answer.json()["listener"] == "ok"
        metrics = requests.get(chat.url() + "/metrics", timeout=30).text
        assert "chatbot_redis_memory_limit_bytes 1.0" in metrics
        eventually(lambda: requests.get(chat.url() + "/readyz", timeout=30).json()["workers"] == 0, what="no signals")
        health = subprocess.run(
            [sys.executable, "-m", "chatbot.worker.health"],
            env=chat.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (health.returncode, "full" in health.stdout) == (0, True), health
        chat.client.config_set("maxmemory", 0)
        eventually(chat.ready)
        assert client.ask("and now?", "m1")["reply_to"] == "m1"
