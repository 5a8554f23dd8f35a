"""Function calls of chat models, streamed and whole, as servers send them."""

from __future__ import annotations

import json
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


def test_special_tokens_behind_a_name_are_no_part_of_it() -> None:
    (call,) = read([{"index": 0, "id": "a", "function": {"name": "look<|channel|>commentary", "arguments": "{}"}}])
    assert call["name"] == "look"


def part(name: str | None, arguments: Any, **fields: Any) -> dict[str, Any]:
    return {**fields, "function": {**({"name": name} if name else {}), "arguments": arguments}}


LOOK, FIND = '{"a":1}', '{"b":2}'


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[part("look", LOOK, id="1")], [part("find", FIND, id="2")]], id="no index"),
        pytest.param(
            [[part("look", "", id="1")], [part(None, LOOK)], [part("find", "", id="2")], [part(None, FIND)]],
            id="no index, in parts",
        ),
        pytest.param([[part("look", LOOK, id="1"), part("find", FIND, id="2")]], id="no index, together"),
        pytest.param([[part("look", LOOK, id="1", index=0)], [part("find", FIND, id="2", index=0)]], id="Gemini"),
        pytest.param([[part("look", LOOK, id="", index=0), part("find", FIND, id="", index=0)]], id="no id, one index"),
        pytest.param([[part("look", LOOK, index="0")], [part("find", FIND, index="1")]], id="an index as text"),
        pytest.param([[part("look", LOOK, index=None)], [part("find", FIND, index=None)]], id="an index of null"),
        pytest.param([[part("look", LOOK, id="x", index=0), part("find", FIND, id="x", index=1)]], id="the same id"),
        pytest.param([[part("look", {"a": 1}), part("find", {"b": 2})]], id="arguments that are objects"),
        pytest.param(
            [[part("look", '{"a"', index=0)], [part("look", ":1}", index=0)], [part("find", FIND, index=1)]],
            id="the name with each part",
        ),
        pytest.param(
            [
                [part("look", '{"a"', id="1", index=0)],
                [part(None, ":1}", id="2", index=0)],
                [part("find", FIND, index=1)],
            ],
            id="an id for each part",
        ),
        pytest.param([part("look", LOOK, id="1"), part("find", FIND, id="2")], id="no list"),
        pytest.param([[{"name": "look", "arguments": LOOK}, {"name": "find", "arguments": FIND}]], id="flat"),
    ],
)
def test_servers_differ_in_how_they_send_two_calls(deltas: list[Any]) -> None:
    first, second = read(*deltas)
    assert (first["name"], json.loads(first["arguments"])) == ("look", {"a": 1})
    assert (second["name"], json.loads(second["arguments"])) == ("find", {"b": 2})
    assert first["call_id"] != second["call_id"]


def test_a_whole_message_replaces_what_was_streamed_of_its_calls() -> None:
    calls = ToolCalls()
    whole = {"tool_calls": [part("look", LOOK, id="1")]}
    calls.read({"choices": [{"delta": {"tool_calls": [part("look", LOOK, id="1", index=0)]}}]})
    calls.read({"choices": [{"message": whole}]})
    calls.read({"message": whole, "done": True})
    (call,) = calls.items()
    assert call["arguments"] == LOOK


def test_the_older_form_of_a_call_is_read() -> None:
    calls = ToolCalls()
    for single in ({"name": "look", "arguments": ""}, {"arguments": LOOK}):
        calls.read({"choices": [{"delta": {"function_call": single}}]})
    (call,) = calls.items()
    assert (call["name"], call["arguments"]) == ("look", LOOK)


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
