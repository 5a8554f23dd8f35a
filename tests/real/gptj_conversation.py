"""The conversation of `tests.support.conversation` with a real GPT-J on vLLM and on `transformers serve`.

pytest does not collect a file of this name: only `make test-models` runs it, which installs the servers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment
from devtools.harness.inference_servers import transformers, vllm
from devtools.paths import ROOT
from tests.support.conversation import LABELS, Conversation, Served, model_check, serve

#: A Python that has torch and both servers.
PYTHON = Path(os.environ.get("MODELS_PYTHON", ROOT / ".venv-models" / "bin" / "python"))
#: Seconds for making the model and for loading it, on a busy machine.
TIMEOUT = 300.0
NAME = "EleutherAI/gpt-j-6B"
#: Tokens: so small a model generates hundreds a second, and a reply must last long enough to be stopped.
LENGTH = "1900"

pytestmark = pytest.mark.timeout(TIMEOUT)


def make_gptj(folder: Path, *options: str) -> Path:
    """Writes the checkpoint into `folder`."""
    command = [str(PYTHON), str(ROOT / "tests" / "real" / "gptj.py"), str(folder), *options]
    subprocess.run(command, check=True, timeout=TIMEOUT, stdout=sys.stderr)
    return folder


@pytest.fixture(scope="module")
def parts() -> Iterator[Deployment]:
    """Redis, a web process and a beat; each server has its own worker."""
    with Deployment("http://127.0.0.1:9/", workers=0) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def gptj(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gptj(tmp_path_factory.mktemp("gptj") / "counting")


class GPTJ(Conversation):
    """The contract, and tests for a model that counts."""

    messages = ("count", "count", "count")
    talk = "talk"

    def test_a_reply_continues_from_the_one_before(self, served: Served) -> None:
        with ChatClient(served.chat.url()) as client:
            assert [client.ask("count")["msg"] for _ in range(5)] == ["one", "two", "three", "four", "five"]

    def test_a_reply_without_end_is_ended_by_the_limit(self, served: Served) -> None:
        with ChatClient(served.chat.url()) as client:
            reply = client.ask("talk")
        assert reply["finish_reason"] == "length"
        assert reply["msg"].split() == ["la"] * int(LENGTH)

    def test_a_model_that_is_not_served_is_named(self, served: Served) -> None:
        checked = model_check(served, MODEL_NAME="no-such-model")
        assert checked.returncode == 1
        assert "verdict:   NO REPLY" in checked.stdout
        assert "no-such-model" in checked.stdout.rpartition("verdict:")[2]

    def test_a_base_model_has_no_chat(self, served: Served) -> None:
        url = served.worker.env["MODEL_URL"].replace("/completions", "/chat/completions")
        checked = model_check(served, MODEL_URL=url, MODEL_API="openai-chat")
        assert checked.returncode == 1
        assert "verdict:   NO REPLY" in checked.stdout


class TestVLLM(GPTJ):
    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, parts: Deployment, gptj: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
        with (
            vllm(PYTHON, gptj, NAME, tmp_path_factory.mktemp("vllm")) as url,
            serve(parts, f"{url}/v1/completions", MODEL_NAME=NAME, MAX_NEW_TOKENS=LENGTH) as served,
        ):
            yield served


class TestTransformers(GPTJ):
    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, parts: Deployment, gptj: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
        with (
            transformers(PYTHON, gptj, tmp_path_factory.mktemp("transformers")) as url,
            serve(parts, f"{url}/v1/completions", MODEL_NAME=str(gptj), MAX_NEW_TOKENS=LENGTH) as served,
        ):
            yield served

    def test_a_stop_sequence_that_the_server_sends_is_not_shown(self, served: Served) -> None:
        with ChatClient(served.chat.url()) as client:
            client.ask("count")
        assert any(b'"text":"Human"' in exchange.received for exchange in served.wire.exchanges)
        assert not any(label[:-1] in delta["msg"] for delta in client.of_type("delta") for label in LABELS)


class TestRandomWeights:
    """A model with random weights: replies mean nothing, but each message gets one."""

    @pytest.fixture(scope="class")
    @classmethod
    def served(cls, parts: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
        folder = tmp_path_factory.mktemp("random")
        gptj = make_gptj(folder / "gptj", "--random")
        with (
            vllm(PYTHON, gptj, NAME, folder) as url,
            serve(parts, f"{url}/v1/completions", MODEL_NAME=NAME, TEMPERATURE="1", SEED="7") as served,
        ):
            yield served

    def test_each_message_gets_a_reply(self, served: Served) -> None:
        with ChatClient(served.chat.url()) as client:
            for message in ("Hello!", "What is the capital of France?", "Grüße aus Köln, 你好"):
                assert client.ask(message)["finish_reason"] in ("stop", "length")
            for reply, text in client.text.items():
                whole = "".join(d["msg"] for d in client.of_type("delta") if d["id"] == reply)
                assert whole == text
