"""A fake model server, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from devtools.fake_model import ModelServer
from tests.unit.devtools.asker import Asker


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.reset()
    return running


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy for this machine's own addresses
        yield session


@pytest.fixture
def tgi(http: requests.Session, server: ModelServer) -> Asker:
    return Asker(http, server, "tgi")


@pytest.fixture(params=["completions", "chat"])
def openai(http: requests.Session, server: ModelServer, request: pytest.FixtureRequest) -> Asker:
    return Asker(http, server, request.param)


@pytest.fixture(params=["tgi", "completions", "chat"])
def any_protocol(http: requests.Session, server: ModelServer, request: pytest.FixtureRequest) -> Asker:
    return Asker(http, server, request.param)
