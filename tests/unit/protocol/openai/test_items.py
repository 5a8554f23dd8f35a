"""Items: what clients may send, and how it is stored."""

from __future__ import annotations

from typing import Any

import pytest

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.create import parse_create, parse_json
from chatbot.protocol.openai.history import items_of, listed
from chatbot.protocol.openai.items import compaction, parse_input, unanswered_outputs

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def text(value: str) -> dict[str, Any]:
    return {"type": "input_text", "text": value}


def test_a_text_is_a_message_of_the_user_and_is_stored_as_text_alone() -> None:
    request = parse_create({"input": "hello", "temperature": 0})
    assert request.text == "hello"
    assert request.stored({}) == {"options": {"temperature": 0}}


def test_several_items_are_stored_with_the_text_of_the_last_message_of_the_user() -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [text("what "), IMAGE, text("is it?")]},
        {
            "type": "function_call",
            "call_id": "c",
            "name": "look",
            "arguments": "{}",
            "status": "completed",
            "id": "fc_1",
        },
        {"type": "function_call_output", "call_id": "c", "output": "a heart"},
        {"type": "reasoning", "summary": []},
    ]
    request = parse_create({"input": items})
    assert request.text == "what is it?"
    stored = request.stored({})["items"]
    assert [item["type"] for item in stored] == ["message", "message", "function_call", "function_call_output"]
    assert stored[0]["role"] == "system"
    assert stored[2] == {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    assert request.needs == "input"


def test_a_compaction_item_brings_its_text_back() -> None:
    packed = compaction("we met on Tuesday ✓", "cmp_1")
    (item,) = parse_input([packed])
    assert item["content"] == [{"type": "input_text", "text": "we met on Tuesday ✓"}]


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (7, "input"),
        ([7], "input[0]"),
        ([{"role": "robot", "content": "x"}], "input[0].role"),
        ([{"role": "user", "content": 7}], "input[0].content"),
        ([{"role": "user", "content": [{"type": "input_file"}]}], "input[0].content[0].type"),
        (
            [{"role": "user", "content": [{**IMAGE, "image_url": "file:///etc/passwd"}]}],
            "input[0].content[0].image_url",
        ),
        ([{"role": "user", "content": "\ud800"}], "input[0].content"),
        ([{"type": "item_reference", "id": 7}], "input[0].id"),
        ([{}], "input[0].type"),
        ([{"type": "function_call_output", "call_id": "", "output": "x"}], "input[0].call_id"),
        ([{"type": "compaction", "encrypted_content": "x"}], "input[0].encrypted_content"),
    ],
)
def test_a_refusal_names_the_field(value: Any, param: str) -> None:
    with pytest.raises(ClientError) as refused:
        parse_create({"input": value})
    assert refused.value.param == param


def test_the_output_of_a_function_that_was_not_called_is_found() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    outputs = [{"type": "function_call_output", "call_id": name, "output": ""} for name in "ab"]
    assert unanswered_outputs(parse_input([call, *outputs])) == ["b"]


def test_the_conversation_is_read_from_what_sessions_store() -> None:
    human = {"id": "h", "source": "human", "msg": "hi"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    bot = {"id": "b", "source": "bot", "msg": "let me see", "items": [call]}
    assert [item["type"] for item in items_of(bot)] == ["message", "function_call"]
    assert items_of({**human, "deleted": True}) == []
    assert [item["id"] for item in listed([human, bot])] == ["msg_h_0", "msg_b_0", "fc_b_1"]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 64"),
        ("NaN", "number beyond 1e"),
        ("1e999", "number beyond 1e"),
        ("9" * 400, "number beyond 1e"),
        ('{"\\ud800":1}', "half of a surrogate pair"),
        ('"\\udc00"', "half of a surrogate pair"),
        ("x", "line 1, column 25"),
    ],
    ids=["deep", "very deep", "no number", "endless", "long", "half a key", "half a text", "no JSON"],
)
def test_what_redisjson_cannot_store_is_refused(value: str, why: str) -> None:
    with pytest.raises(ClientError, match=f"invalid_json.*{why}"):
        parse_json(f'{{"input":"x","metadata":{value}}}')


def test_a_body_may_hold_any_other_json() -> None:
    assert parse_json('{"a":[{"b":[1.5,-2,null,true,"\\ud83d\\ude00"]}]}') == {
        "a": [{"b": [1.5, -2, None, True, "😀"]}]
    }
