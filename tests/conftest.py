"""Real Redis, processes and model servers for the tests: a missing one fails the tests, none is skipped."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from chatbot.logs import summaries
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import connect
from devtools.fake_model import ModelServer
from devtools.harness.deployment import SETTINGS, USER_ARGUMENTS, Deployment, running_redis
from devtools.harness.redis_cluster import RedisCluster, running_cluster
from tests.support.alone import Room
from tests.support.contracts import Contracts, documented, install

ROOM = pytest.StashKey[Room]()
#: What all clients of this process have received.
CONTRACTS = Contracts()
install(CONTRACTS)
#: What a developer or a machine has in its environment changes no test: neither settings nor proxies.
for _name in {*SETTINGS, *(name for name in os.environ if name.lower().endswith("_proxy"))}:
    os.environ.pop(_name, None)


def pytest_configure(config: pytest.Config) -> None:
    # pytest removes the folder of a run after some later ones.
    config.stash[ROOM] = Room(Path(config.option.basetemp).parent if hasattr(config, "workerinput") else None)


@pytest.fixture(autouse=True)
def keeps_the_contracts() -> Iterator[None]:
    """Fails a test whose clients received what stands in no contract."""
    yield
    problems = CONTRACTS.take_problems()
    assert not problems, problems[:5]


@pytest.fixture(autouse=True)
def no_summary_of_earlier_lines() -> None:
    """Logs now what would else be logged within this test: the summaries of log lines that earlier tests repeated."""
    summaries.flush()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Outside the timeout of the test, which begins when it may run."""
    with item.config.stash[ROOM].test(alone=_alone(item), next_alone=nextitem is not None and _alone(nextitem)):
        return (yield)


def _alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def pytest_testnodedown(node: Any) -> None:
    """Adds what a process of a parallel run has received."""
    CONTRACTS.seen |= set(getattr(node, "workeroutput", {}).get("contracts", ()))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fails a whole run in which something in the contracts did not occur."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["contracts"] = sorted(CONTRACTS.seen)
        return
    if file := os.environ.get("CONTRACTS_SEEN"):
        with open(file, "a", encoding="utf-8") as seen:
            seen.writelines(f"{each}\n" for each in sorted(CONTRACTS.seen))
    options = session.config.option
    whole = session.config.args == session.config.getini("testpaths") and not (options.keyword or options.markexpr)
    if whole and exitstatus == 0 and (missing := sorted(documented() - CONTRACTS.seen)):
        print(f"\nThese stand in the contracts and did not occur: {', '.join(missing)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def model() -> Iterator[ModelServer]:
    """A fake model server that all tests share; `reset_model` resets it before each test."""
    with ModelServer(tokens=6) as server:
        yield server


@pytest.fixture(autouse=True)
def reset_model(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("model") if "model" in request.fixturenames else None
    if isinstance(server, ModelServer):
        server.reset()


@pytest.fixture(scope="session")
def chat(model: ModelServer) -> Iterator[Deployment]:
    """Two web processes, two workers on one Redis."""
    with Deployment(model.url, webs=2, workers=2, model_attempts=2) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    """A Redis Cluster of three masters, which knows the user with few rights. Tests share it: they move slots only."""
    with running_cluster(replicas=0, arguments=USER_ARGUMENTS) as running:
        yield running


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis."""
    client = connect(redis_url, 20)
    client.execute_command("FLUSHALL", "SYNC")
    yield client
    client.connection_pool.disconnect()


@pytest.fixture
def sessions(redis_client: redis.Redis) -> Sessions:
    return Sessions(redis_client, ttl=60, max_pending=8)


@pytest.fixture
def leases(redis_client: redis.Redis) -> Leases:
    return Leases(redis_client, ttl=60, history_messages=4)


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    return Ledger(redis_client)


@pytest.fixture
def session(sessions: Sessions) -> str:
    return session_id(sessions.create("Ada")["token"])
