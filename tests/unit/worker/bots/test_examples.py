"""The bots in examples, as a worker calls them; their models are stubs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import pytest

from chatbot.worker.bots.model import PythonModel
from chatbot.worker.models.answers.piece import Piece
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import PermanentModelError, TransientModelError
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer
from devtools.paths import ROOT

Ask = Callable[..., list[Piece]]

TEXTS = {"opening.md", "lending.txt"}


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Asks a bot in a folder of its own, as `chatbot worker NAME` does; an earlier turn stands before the question."""
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "AGENT_MODEL", "TEXTS"):
        monkeypatch.delenv(name, raising=False)
    models: dict[str, PythonModel] = {}

    def ask(name: str, question: str, **environ: str) -> list[Piece]:
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)
        if name not in models:
            models[name] = PythonModel(name, lambda _: ("Ada", "2026-11-27T00:00:00Z"), 8)
        conversation = [PromptMessage("user", "q1"), PromptMessage("assistant", "a1"), PromptMessage("user", question)]
        return list(models[name].generate(conversation, Call(30)))

    yield ask
    if "openai_bot" in sys.modules:
        loop = next(iter(models.values()))._caller._loop._loop
        assert loop is not None
        asyncio.run_coroutine_threadsafe(sys.modules["openai_bot"].client.close(), loop).result(10)
    for path in (ROOT / "examples").glob("*.py"):
        sys.modules.pop(path.stem, None)


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_the_openai_package_streams_what_a_model_says(ask: Ask, model: ModelServer) -> None:
    server = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_MODEL": "gpt-j"}
    pieces = ask("openai_bot:reply", "hello", **server)
    assert text(pieces).startswith("You said: hello")
    assert len(pieces) > 3
    assert pieces[-1].finish_reason in ("stop", "length")
    model.fault("rate_limited")
    with pytest.raises(TransientModelError, match="openai_bot:reply raised"):
        ask("openai_bot:reply", "hello", **server)
    model.fault("unauthorized")
    with pytest.raises(PermanentModelError, match="openai_bot:reply raised AuthenticationError"):
        ask("openai_bot:reply", "hello", **server)


def test_the_agent_calls_its_tool_and_streams_its_answer(ask: Ask) -> None:
    from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

    prompts: list[Any] = []

    async def stub(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
        prompts.append((messages, info))
        if len(prompts) == 1:
            yield {0: DeltaToolCall(name="time_in", json_args='{"zone": "Mars/Olympus"}', tool_call_id="c1")}
        elif len(prompts) == 2:
            yield {0: DeltaToolCall(name="time_in", json_args='{"zone": "Europe/Paris"}', tool_call_id="c2")}
        else:
            yield "In Paris it is "
            yield messages[-1].parts[0].content

    with ExitStack() as stack:

        def stubbed(name: str) -> list[Piece]:
            sys.path.insert(0, ".")
            stack.enter_context(import_module("agent_bot").agent.override(model=FunctionModel(stream_function=stub)))
            return ask(name, "What time is it in Paris?")

        pieces = stubbed("agent_bot:reply")
    assert text(pieces).startswith("In Paris it is ")
    assert "day" in text(pieces)
    thoughts = "".join(piece.reasoning for piece in pieces)
    calls = [f'Calls time_in with {{"zone":"{zone}"}}.' for zone in ("Mars/Olympus", "Europe/Paris")]
    assert thoughts.splitlines() == calls
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion
    messages, info = prompts[0]
    assert [message.kind for message in messages] == ["request", "response", "request"]
    assert "The user's name is Ada." in str(messages[-1].instructions or info)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When is the library open?", "opening.md: The library is open from Monday"),
        ('Does "extending" a loan cost (anything) AND how much -- NEAR?', "lending.txt: Books are lent for four weeks"),
    ],
)
def test_the_search_quotes_passages_where_there_is_no_model(ask: Ask, question: str, answer: str) -> None:
    found = text(ask("search_bot:reply", question))
    assert answer in found
    assert {line.partition(":")[0] for line in found.split("\n\n")} <= TEXTS


def test_the_search_finds_nothing_for_a_question_without_words(ask: Ask) -> None:
    assert text(ask("search_bot:reply", "???")) == "I have found nothing about that."


def test_the_search_asks_a_model_with_the_passages(ask: Ask, model: ModelServer) -> None:
    server = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_MODEL": "gpt-j"}
    assert text(ask("search_bot:reply", "When is the library open?", **server)).startswith("You said: ")
    assert "opening.md: The library is open from Monday" in str(model.requests()[-1].messages)
