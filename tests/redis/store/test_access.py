"""The user of Redis with few rights, and what is said about a Redis that cannot be used."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from chatbot.store.access import (
    JSON_MISSING,
    LEAST_ACL,
    SESSION_COMMANDS,
    _refusal,
    find_problem,
    queue_commands,
    unreachable,
)
from chatbot.store.client import connect
from chatbot.store.partition_table import open_partitions
from chatbot.telemetry.liveness import WorkerAges
from chatbot.telemetry.redis_use import RedisUse, check_use
from chatbot.web.readiness import _state, report_broker, report_redis
from chatbot.worker import health
from devtools.harness.deployment import Process, eventually, running_redis
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command
from devtools.paths import ROOT

ALL = f"{SESSION_COMMANDS}|{queue_commands(0)}"


@pytest.fixture(scope="module")
def own_redis() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture
def admin(own_redis: str) -> Iterator[redis.Redis]:
    """The default user of a Redis in which the user `chat` has the rights of the docs."""
    client = connect(own_redis, 2)
    client.execute_command("ACL", "SETUSER", "chat", "reset", "on", ">pw", *LEAST_ACL.split())
    yield client
    client.connection_pool.disconnect()


@pytest.fixture
def user(own_redis: str) -> Iterator[redis.Redis]:
    client = connect(own_redis.replace("//", "//chat:pw@"), 2)
    yield client
    client.connection_pool.disconnect()


def test_the_rights_stand_in_the_docs() -> None:
    assert LEAST_ACL in " ".join((ROOT / "docs" / "operations.md").read_text("utf-8").replace("\\\n", " ").split())


def test_every_command_of_a_script_is_asked_for() -> None:
    called = set()
    for script in (files("chatbot.sessions") / "scripts").iterdir():
        called |= set(re.findall(r"redis\.p?call\('([A-Z.]+)'", Path(str(script)).read_text("utf-8")))
    assert called
    # A task is enqueued only where the broker is the Redis of the sessions.
    assert called <= {command.split(" ")[0] for command in f"{SESSION_COMMANDS}|{queue_commands(0)}".split("|")}


def test_the_user_of_the_docs_has_all_rights_and_nothing_is_written(admin: redis.Redis, user: redis.Redis) -> None:
    assert find_problem(user, ALL, "REDIS_URL") is None
    assert admin.dbsize() == 0


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        (("-wait",), "the command WAIT"),
        (("-json.arrtrim",), "the command JSON.ARRTRIM"),
        (("-publish",), "the command PUBLISH"),
        (("-multi",), None),
        (("resetchannels", "&chat:*"), "the channel /0.celery.pidbox for SUBSCRIBE, PSUBSCRIBE"),
        (("resetkeys", "~chat:*"), "the key celery for BRPOP, RPUSH, LPUSH, LLEN, DEL"),
    ],
)
def test_a_missing_right_is_named(
    admin: redis.Redis, user: redis.Redis, rule: tuple[str, ...], named: str | None
) -> None:
    admin.execute_command("ACL", "SETUSER", "chat", *rule)
    problem = find_problem(user, ALL, "REDIS_URL")
    if named is None:
        assert problem is not None
        assert "MULTI" in problem
        return
    assert problem is not None
    assert problem.startswith("the user of REDIS_URL lacks rights: ")
    assert named in problem


def test_a_wrong_password_is_named(admin: redis.Redis, own_redis: str) -> None:
    stranger = connect(own_redis.replace("//", "//chat:SECRET@"), 1)
    problem = find_problem(stranger, ALL, "REDIS_URL")
    assert problem == "Redis refuses the user or the password: correct REDIS_URL, or REDIS_USER and REDIS_PASSWORD"


def test_a_replica_is_named(own_redis: str) -> None:
    port = own_redis.rpartition(":")[2].removesuffix("/0")
    with running_redis("--replicaof", f"127.0.0.1 {port}") as url:
        client = connect(url, 1, retries=0)
        problem = find_problem(client, SESSION_COMMANDS, "REDIS_URL")
        assert problem is not None
        assert "it is a replica (REDIS_URL must name the master)" in problem


def test_a_cluster_is_named() -> None:
    # By default the bus has the port plus 10 000, which may be above 65 535.
    with running_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as url:
        problem = find_problem(connect(url, 1, retries=0), SESSION_COMMANDS, "CELERY_BROKER_URL")
        assert problem is not None
        assert "begin CELERY_BROKER_URL with redis+cluster://" in problem


def test_a_redis_without_json_is_named(tmp_path: Path) -> None:
    port = free_port()
    command = [part for part in redis_command(port, tmp_path) if part != "--loadmodule" and not part.endswith(".so")]
    process = Process("redis", command, dict(os.environ), tmp_path / "log").start()
    client = connect(f"redis://127.0.0.1:{port}/0", 1)
    try:

        def problem() -> str | None:
            try:
                return find_problem(client, ALL, "REDIS_URL")
            except redis.ConnectionError:
                return None

        assert eventually(problem) == JSON_MISSING
    finally:
        client.connection_pool.disconnect()
        process.kill()


def test_a_redis_without_transactions_is_named_and_runs_nothing() -> None:
    with running_redis("--rename-command", "MULTI", "") as url:
        client = connect(url, 1)
        client.rpush("celery", "a task")
        problem = find_problem(client, ALL, "REDIS_URL")
        assert problem == "this Redis does not know MULTI: remove the rename-command of its configuration"
        assert client.keys() == ["celery"]


def test_other_commands_that_are_missing_are_not_taken_for_the_module() -> None:
    error = redis.ResponseError("unknown command 'X', with args beginning with: ")
    assert _refusal([("JSON.GET x", error), ("GET x", "QUEUED")], "REDIS_URL") == JSON_MISSING
    assert "does not know EVALSHA" in str(_refusal([("JSON.GET x", "QUEUED"), ("EVALSHA 0", error)], "REDIS_URL"))
    disk = redis.ResponseError("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to")
    assert "cannot save its data" in str(_refusal([("SET x 1", disk)], "REDIS_URL"))


def test_a_redis_that_may_lose_messages_or_takes_none_is_named(admin: redis.Redis, own_redis: str) -> None:
    def found() -> RedisUse:
        return check_use(own_redis, ALL, "REDIS_URL")

    assert found() == RedisUse()
    try:
        admin.config_set("maxmemory-policy", "volatile-lru")
        admin.config_set("maxmemory", "1gb")
        assert found().problem is None
        assert "set its maxmemory-policy to noeviction" in str(found().advice)
        admin.config_set("maxmemory", "1")
        assert "full" in str(found().problem)
    finally:
        admin.config_set("maxmemory", "0")
        admin.config_set("maxmemory-policy", "noeviction")


def test_a_web_process_says_at_its_start_that_it_accepts_no_messages(
    own_redis: str, caplog: pytest.LogCaptureFixture
) -> None:
    report_redis([f"{own_redis[:-2]}/999", own_redis])
    assert [record.getMessage() for record in caplog.records] == [
        "no messages of Redis 1 of 2 are accepted: Redis has no database of this number: end REDIS_URL with /0"
    ]


def test_flower_says_at_its_start_that_it_shows_nothing(own_redis: str, caplog: pytest.LogCaptureFixture) -> None:
    report_broker(own_redis, "CELERY_BROKER_URL")
    report_broker("amqp://127.0.0.1:9", "CELERY_BROKER_URL")
    assert not caplog.records
    report_broker(f"{own_redis[:-2]}/999", "CELERY_BROKER_URL")
    assert "end CELERY_BROKER_URL with /0" in caplog.text


def test_a_probe_that_asks_again_and_again_logs_a_problem_once(
    own_redis: str, caplog: pytest.LogCaptureFixture
) -> None:
    (group,) = open_partitions((f"{own_redis[:-2]}/999",), 1).groups
    hub: Any = SimpleNamespace(wait_until_hearing=lambda *_: False)
    for _ in range(3):
        assert _state(hub, group)["redis"] == "does not answer"
    assert [record.getMessage() for record in caplog.records] == ["readyz: DB index is out of range"]


@pytest.mark.parametrize(
    ("error", "url", "said"),
    [
        ("Connection reset by peer", "redis://h", "if it has TLS, begin REDIS_URL with rediss://"),
        ("Timeout connecting to server", "rediss://h", "has no TLS, begin REDIS_URL with redis://"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] x", "rediss://h", "?ssl_ca_certs=FILE"),
        ("Redis is loading the dataset in memory", "redis://h", "still loading"),
        ("Name or service not known", "redis://h", "no Redis answers where REDIS_URL says: Name or"),
    ],
)
def test_why_a_redis_does_not_answer(error: str, url: str, said: str) -> None:
    assert said in unreachable(redis.ConnectionError(error), url, "REDIS_URL")


def test_of_two_workers_under_one_name_a_frozen_one_does_not_count_as_alive(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    gone = {"celery@host 1999999999": 60.0, f"celery@host {os.getpid()}": 1.0}
    assert health._report(WorkerAges(gone, 15.0), None) == 0
    frozen = {f"celery@host {os.getpid()}": 60.0, f"celery@host {os.getppid()}": 1.0}
    assert health._report(WorkerAges(frozen, 15.0), None) == 1
    assert "celery@host is SILENT" in capsys.readouterr().out
