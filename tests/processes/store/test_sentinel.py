"""Redis that becomes a replica, loses its replicas, or is reached through Sentinel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from chatbot.config import Settings
from chatbot.errors import ConfigurationError, StoreUnavailable
from chatbot.protocol.client_errors import SessionNotFound
from chatbot.queue.celery_app import create_celery
from chatbot.queue.redis_broker import celery_broker
from chatbot.sessions.ids import session_id
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import connect
from chatbot.store.sentinel import SentinelAddress
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history
from devtools.harness.deployment import Deployment, Process, eventually, running_redis
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command
from devtools.paths import BIN, ROOT


def test_a_sentinel_url_is_parsed() -> None:
    found = SentinelAddress.parse("sentinel://ada:p%40ss@h1,[::1]:7000,h3:26380/chat/2?sentinel_password=s+s")
    assert found.sentinels == (("h1", 26379), ("::1", 7000), ("h3", 26380))
    assert found.service == "chat"
    assert found.redis_options == {"username": "ada", "password": "p@ss", "db": 2}
    assert found.sentinel_options == {"password": "s s"}


def test_tls_verifies_certificates_by_default() -> None:
    url = "sentinels://h1,h2/chat?ssl_ca_certs=/ca.pem"
    found = SentinelAddress.parse(url)
    assert found.sentinel_options == {"ssl": True, "ssl_ca_certs": "/ca.pem"}
    assert found.redis_options["ssl_ca_certs"] == "/ca.pem"
    for broker in (url, "rediss://h/0?ssl_ca_certs=/ca.pem"):
        tls = celery_broker(broker)[2]
        assert tls is not None
        assert tls["ssl_cert_reqs"].name == "CERT_REQUIRED"
        assert tls["ssl_ca_certs"] == "/ca.pem"


def test_celery_verifies_the_certificate_of_a_rediss_broker_by_default() -> None:
    app = create_celery(Settings.from_env({"CELERY_BROKER_URL": "rediss://h/0"}))
    assert app.connection().ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"
    app = create_celery(Settings.from_env({"CELERY_BROKER_URL": "rediss://h/0?ssl_cert_reqs=none"}))
    assert app.connection().ssl["ssl_cert_reqs"].name == "CERT_NONE"


def test_the_sentinel_settings_complete_both_urls() -> None:
    environ = {
        "REDIS_URL": "sentinel://h1,h2/chat",
        "REDIS_USER": "ada",
        "REDIS_PASSWORD": "p",
        "SENTINEL_PASSWORD": "s/s",
        "CELERY_BROKER_URL": "sentinel://b1/queue/1",
    }
    found = Settings.from_env(environ)
    assert found.redis.url == "sentinel://ada:p@h1,h2/chat?sentinel_password=s%2Fs"
    assert found.redis.broker_url == "sentinel://b1/queue/1?sentinel_password=s%2Fs"
    assert found.redis.wait_replicas == 1
    assert Settings.from_env({**environ, "REDIS_WAIT_REPLICAS": "2"}).redis.wait_replicas == 2
    assert Settings.from_env({"SENTINEL_PASSWORD": "s"}).redis.wait_replicas == 0


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://u:secret@h1",
        "sentinel://u:secret@h1,h2:port/chat",
        "sentinel://u:secret@h1,,h2/chat",
        "sentinel://u:secret@h1/chat/db",
        "sentinel://u:secret@h1:26379;sentinel://u:secret@h2:26379/chat",
    ],
)
@pytest.mark.parametrize("name", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_an_invalid_sentinel_url_is_refused_by_the_name_of_its_setting(name: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as error:
        Settings.from_env({name: url})
    assert "secret" not in str(error.value)


class Pair:
    """A master and its replica."""

    def __init__(self, folder: Path) -> None:
        self.ports = (free_port(), free_port())
        self.urls = [f"redis://127.0.0.1:{port}/0" for port in self.ports]
        self.processes = []
        for port in self.ports:
            data = folder / str(port)
            data.mkdir()
            command = redis_command(port, data, ["--repl-diskless-sync-delay", "0"])
            self.processes.append(Process("redis", command, dict(os.environ), data / "log").start())

    def follow(self, number: int, of: int) -> None:
        with redis.Redis.from_url(self.urls[number]) as client:
            eventually(lambda: _answers(client), what="Redis answers")
            client.replicaof("127.0.0.1", self.ports[of])
            eventually(lambda: client.info("replication").get("master_link_status") == "up", what="the replica follows")

    def lead(self, number: int) -> None:
        with redis.Redis.from_url(self.urls[number]) as client:
            client.replicaof("NO", "ONE")


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    try:
        found.follow(1, of=0)
        yield found
    finally:
        for process in found.processes:
            process.kill()


def waits(client: redis.Redis) -> int:
    """How often the replicas were waited for."""
    return int(client.info("commandstats")["cmdstat_wait"]["calls"])


def test_a_message_is_on_the_replica_before_it_is_acknowledged(pair: Pair) -> None:
    with closing(connect(pair.urls[0], 2)) as client, closing(connect(pair.urls[1], 2)) as replica:
        sessions = Sessions(client, ttl=60, max_pending=8, wait_replicas=1)
        copy = Sessions(replica, ttl=60, max_pending=8)
        session = session_id(sessions.create("Ada")["token"])
        for number in range(50):
            if number % 8 == 0:
                client.delete(f"chat:{{{session}}}:pending")
            sessions.requests.accept(session, f"m{number}", "hello")
            assert copy.snapshot(session, position=number, touch=False).length == number + 1
        # As after a restart: the client loads the script again.
        client.script_flush()
        assert sessions.requests.accept(session, "m49", "hello").id == "m49"
        sessions.create("Bob")
        pair.processes[1].kill()
        before = waits(client)
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            sessions.requests.accept(session, "m50", "hello")
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            sessions.requests.accept(session, "m50", "a repetition, still on no replica")
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            sessions.create("Cid")
        # One each: none is tried again.
        assert waits(client) == before + 3


def test_a_connection_closes_when_its_redis_becomes_a_replica(pair: Pair) -> None:
    with closing(connect(pair.urls[0], 1)) as client:
        sessions = Sessions(client, ttl=60, max_pending=8)
        session = session_id(sessions.create("Ada")["token"])
        pair.lead(1)
        pair.follow(0, of=1)
        number = client.client_id()
        with pytest.raises(StoreUnavailable, match="no longer the master"):
            sessions.requests.accept(session, "m1", "hello")
        assert client.client_id() != number
        pair.lead(0)
        assert sessions.requests.accept(session, "m1", "hello").id == "m1"
        with pytest.raises(SessionNotFound):
            sessions.requests.accept("unknown", "m1", "hello")


def test_a_worker_survives_errors_of_its_broker(model: ModelServer, pair: Pair) -> None:
    with (
        redis.Redis.from_url(pair.urls[0]) as broker,
        Deployment(model.url, celery_broker_url=pair.urls[0]) as chat,
        ChatClient(chat.url()) as client,
    ):
        client.ask("is all well?")
        pair.lead(1)
        pair.follow(0, of=1)
        eventually(lambda: "network:ConnectionError" in chat.workers[0].log, what="the worker notices")
        client.send("and now?", "m1")
        assert client.until("ack")["id"] == "m1"
        pair.lead(0)
        assert client.until("message")["reply_to"] == "m1"
        # A key of the wrong type, as an operator's mistake may leave.
        broker.delete("celery")
        broker.set("celery", "not a list")
        eventually(lambda: "server:ResponseError" in chat.workers[0].log, what="the worker notices")
        broker.delete("celery")
        assert client.ask("and now?", "m2")["reply_to"] == "m2"
        assert chat.workers[0].running
        assert len(history(chat.url(), client.token)) == 6


def test_celery_report_shows_no_password() -> None:
    with running_redis() as url:
        secrets = {"REDIS_PASSWORD": "top-secret-1", "SENTINEL_PASSWORD": "top-secret-2"}
        env = {**os.environ, "REDIS_URL": url, "CELERY_BROKER_URL": "sentinel://u:top-secret-3@h1,h2/chat", **secrets}
        said = subprocess.run(
            [BIN / "celery", "-A", "celery_worker", "report"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert "sentinel_kwargs" in said
    assert "top-secret" not in said
