"""Options of a request: checked, and in the form that is stored."""

from __future__ import annotations

from typing import Any

import pytest

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.chat import parse_chat
from chatbot.protocol.openai.chat_params import chat_names
from chatbot.protocol.openai.create import parse_create, parse_json
from chatbot.protocol.openai.items import invalid
from chatbot.protocol.openai.options import allowed_functions

TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}}
SCHEMA = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**TOOL, "name": "no spaces"}]}, "tools[0].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"conversation": "c"}, "conversation"),
        ({"generate": False}, "generate"),
        ({"stream": "yes"}, "stream"),
        ({"background": True, "store": False}, "store"),
        ({"input": []}, "input"),
        ({"input": " \x00"}, "input"),
        ({"tools": [TOOL, {**TOOL, "parameters": {}}]}, "tools[1].name"),
        ({"include": ["nonsense"]}, "include"),
        ({"stream_options": 5}, "stream_options"),
        ({"reasoning": {"effort": 5}}, "reasoning"),
    ],
)
def test_a_refusal_names_the_option(options: dict[str, Any], param: str) -> None:
    with pytest.raises(ClientError) as refused:
        parse_create({"input": "x", **options})
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 3}, "temperature must be greater than or equal to 0 and less than or equal to 2"),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"max_output_tokens": 1.5}, "max_output_tokens must be an integer"),
        ({"parallel_tool_calls": "often"}, "parallel_tool_calls must be true or false"),
        ({"truncation": "some"}, "truncation must be one of auto, disabled"),
        ({"metadata": {"a": 1}}, "metadata must hold texts alone"),
        ({"reasoning": "much"}, "reasoning must be an object"),
        ({"safety_identifier": "x" * 513}, "safety_identifier must not be longer than 512"),
    ],
)
def test_a_refusal_is_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError) as refused:
        parse_create({"input": "x", **options})
    assert refused.value.message == message


def test_null_and_unknown_fields_count_as_absent() -> None:
    assert parse_create({"input": "x", "temperature": None, "tools": None, "something_new": 1}).options == {}


def test_the_functions_that_a_model_may_call_follow_from_the_choice() -> None:
    tools = [TOOL, {**TOOL, "name": "listen"}]

    def allowed(choice: Any) -> set[str]:
        return allowed_functions(parse_create({"input": "x", "tools": tools, "tool_choice": choice}).options)

    assert allowed("auto") == {"look", "listen"}
    assert allowed("none") == set()
    assert allowed({"type": "function", "name": "look"}) == {"look"}
    assert allowed({"type": "allowed_tools", "tools": [{"type": "function", "name": "listen"}]}) == {"listen"}


def test_a_chat_completion_is_the_same_request_in_another_form() -> None:
    chat = parse_chat(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]},
                {"role": "assistant", "content": None, "tool_calls": [_call("look")]},
                {"role": "tool", "tool_call_id": "c", "content": "a heart"},
            ],
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
            "max_completion_tokens": 7,
            "stop": "\n",
            "seed": 3,
        }
    )
    same = parse_create(
        {
            "input": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_image", "image_url": "https://x.example/a.png"}]},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "a heart"},
            ],
            "tools": [TOOL],
            "tool_choice": {"type": "function", "name": "look"},
            "text": {"format": SCHEMA},
            "max_output_tokens": 7,
        }
    )
    assert chat.items == same.items
    assert chat.options == {**same.options, "stop": ["\n"], "seed": 3}
    assert not chat.store


@pytest.mark.parametrize(
    "further", [{"n": 2}, {"logprobs": True}, {"stop": [7]}, {"stop": ["a"] * 5}, {"messages": []}]
)
def test_a_chat_completion_with_what_is_not_supported_is_refused(further: dict[str, Any]) -> None:
    with pytest.raises(ClientError):
        parse_chat({"messages": [{"role": "user", "content": "x"}], **further})


FUNCTION = {"name": "look", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("further", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1, "max_tokens": 5}, "max_completion_tokens"),
        ({"tools": [{"type": "function", "function": {**FUNCTION, "name": "no spaces"}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"messages": [{"role": "tool", "tool_call_id": 5, "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "messages[0].tool_calls[0].id"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
    ],
)
def test_an_error_of_a_chat_completion_names_the_field_as_its_client_does(further: dict[str, Any], param: str) -> None:
    document = {"messages": [{"role": "user", "content": "x"}], **further}
    with pytest.raises(ClientError) as refused, chat_names(document):
        parse_chat(document)
    assert refused.value.param == param
    assert refused.value.message.startswith(param)


@pytest.mark.parametrize("role", ["wizard", None, ["user"]])
def test_a_wrong_role_is_refused_with_all_that_are_accepted(role: Any) -> None:
    document = {"messages": [{"role": role, "content": "x"}]}
    with pytest.raises(ClientError) as refused, chat_names(document):
        parse_chat(document)
    assert refused.value.message == "messages[0].role must be one of user, assistant, system, developer, tool"


def test_errors_found_later_name_the_fields_of_chat_completions_too() -> None:
    with pytest.raises(ClientError) as refused, chat_names({}):
        raise invalid("input", "input is wrong")
    assert (refused.value.param, refused.value.message) == ("messages", "messages is wrong")


def _call(name: str) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\ud800"', "[" * 70 + "]" * 70])
def test_what_cannot_be_stored_is_named(value: str) -> None:
    with pytest.raises(ClientError) as refused:
        parse_json(f'{{"input":"x","temperature":{value}}}')
    assert (refused.value.code, refused.value.param) == ("invalid_json", "temperature")
