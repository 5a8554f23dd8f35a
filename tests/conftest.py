"""Real Redis, processes and model servers for the tests: a missing one fails the tests, none is skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.messages import Sessions
from chatbot.store.client import connect
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, running_redis


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
    """Two web processes, three workers on one Redis."""
    with Deployment(model.url, webs=2, workers=3, model_attempts=2) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with running_redis() as url:
        yield url


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
