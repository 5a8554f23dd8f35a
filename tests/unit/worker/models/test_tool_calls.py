"""Function calls of chat models, streamed and whole, as servers send them."""

from __future__ import annotations

from typing import Any

import pytest

from chatbot.config import ModelAddress, ModelSettings, Settings
from chatbot.worker.models import create_model
from chatbot.worker.models.answers.tool_calls import ToolCalls
from chatbot.worker.models.call import Call
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer


def read(*deltas: Any) -> tuple[dict[str, str], ...]:
    calls = ToolCalls()
    for delta in deltas:
        calls.read({"choices": [{"delta": {"tool_calls": delta}}]})
    return calls.items()


def test_parts_of_a_call_are_joined_by_their_index() -> None:
    first, second = read(
        [{"index": 0, "id": "a", "function": {"name": "look", "arguments": ""}}],
        [{"index": 1, "id": "b", "function": {"name": "listen", "arguments": "{}"}}],
        [{"index": 0, "function": {"arguments": '{"at":'}}],
        [{"index": 0, "function": {"arguments": '"x"}'}}],
    )
    assert (first["call_id"], first["name"], first["arguments"]) == ("a", "look", '{"at":"x"}')
    assert (second["call_id"], second["name"]) == ("b", "listen")


@pytest.mark.parametrize("delta", [None, "x", ["x"], [{}], [{"function": {"name": 7}}]])
def test_what_is_no_call_is_left_out(delta: Any) -> None:
    assert read(delta) == ()


def test_a_call_without_an_id_gets_one() -> None:
    (call,) = read([{"function": {"name": "look"}}])
    assert call["call_id"].startswith("call_")
    assert call["arguments"] == "{}"


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_calls_a_function(model: ModelServer, stream: bool) -> None:
    address = ModelAddress(f"{model.url}/v1/chat/completions", "openai-chat")
    protocol = create_model(Settings(model=ModelSettings(servers=(address,))))
    if not stream:
        protocol._parameters = {**protocol._parameters, "stream": False}  # type: ignore[attr-defined]
    call = Call(5.0)
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    call.options = {"tools": [{"type": "function", "name": "look", "parameters": schema}]}
    *_, last = protocol.generate([PromptMessage("user", "the heart")], call)
    assert last.finish_reason == "stop"
    (found,) = last.calls
    assert (found["name"], found["arguments"]) == ("look", '{"at": "the heart"}')
