"""The conversation of `tests.support.conversation` with llama.cpp's server and with the text-generation protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.harness.inference_servers import llama
from tests.support.conversation import Conversation, Served, serve


@pytest.fixture(scope="module")
def parts() -> Iterator[Deployment]:
    """Redis, a web process and beat; each model server has its own worker."""
    with Deployment("http://127.0.0.1:9/", workers=0) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def llama_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama(tmp_path_factory.mktemp("llama")) as url:
        yield url


class TestLlamaCompletions(Conversation):
    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, parts: Deployment, llama_url: str) -> Iterator[Served]:
        with serve(parts, f"{llama_url}/v1/completions") as served:
            yield served


class TestLlamaChat(Conversation):
    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, parts: Deployment, llama_url: str) -> Iterator[Served]:
        with serve(parts, f"{llama_url}/v1") as served:
            yield served


class TestTextGeneration(Conversation):
    talk = "!tokens=90 !interval=30 a long story"
    too_long = "!fault=invalid*1 too long"

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, parts: Deployment) -> Iterator[Served]:
        with ModelServer(tokens=6) as server, serve(parts, server.url) as served:
            yield served
