"""The file of a chat is checked to its last field, and its errors say what is wrong where."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatbot.protocol.chat_files import parse_chat_file
from chatbot.protocol.client_errors import ClientError

TIME = "2026-01-02T03:04:05.678Z"
ASKED = {"id": "a", "source": "human", "msg": "hi", "timestamp": TIME, "reply_to": None, "parent": None}
REPLY = {"id": "b", "source": "bot", "msg": "", "timestamp": TIME, "reply_to": "a", "finish_reason": "stopped"}
USAGE = {"prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 2}


def file(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"name": "Ada", "messages": list(messages), **fields}).encode()


def parse(body: bytes) -> list[dict[str, Any]]:
    return parse_chat_file(body, max_messages=3, max_length=10).messages


def test_known_fields_are_kept_and_others_dropped() -> None:
    rated = {**REPLY, "usage": {**USAGE, "new": 1}, "feedback": {"rating": "up"}, "options": {"model": "x"}}
    assert parse(file(ASKED, rated, title="x")) == [
        {**ASKED, "finish_reason": None},
        {**REPLY, "usage": USAGE, "feedback": {"rating": "up", "text": None}},
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"\xff\xfe", "it cannot be read, or is incomplete"),
        (file(ASKED)[:-9], "it cannot be read, or is incomplete"),
        (b"[" * 100_000, "it cannot be read, or is incomplete"),
        (b'[{"mapping": {}}]', "not a chat that was exported here as JSON"),
        (b'{"messages": {}}', "not a chat that was exported here as JSON"),
        (file(), "The file holds no messages"),
        (file(ASKED, name=" "), "'name' must not be blank"),
        (file(ASKED, leaf="*"), "'leaf' must have 1 to 64"),
        (file(*[ASKED] * 4), "has 4 messages, and a chat has at most 3"),
        (file(ASKED, "b"), "message 2: is not valid"),
        (file(ASKED, {**REPLY, "id": "a b"}), "message 2: 'id' must have 1 to 64"),
        (file({**ASKED, "id": "a\n"}), "message 1: 'id' must have 1 to 64"),
        (file({**ASKED, "msg": " "}), "message 1: 'msg' must have 1 to 10"),
        (file({**ASKED, "msg": "x" * 11}), "message 1: 'msg' must have 1 to 10"),
        (file({**ASKED, "msg": "\ud800"}), "message 1: 'msg' holds half"),
        (file({**ASKED, "timestamp": "2026-01-02"}), "message 1: 'timestamp' must be a time"),
        (file({**ASKED, "source": "system"}), "message 1: 'source' must be one of"),
        (file({**ASKED, "reply_to": "b"}), "message 1: 'reply_to' must name"),
        (file({**REPLY, "reply_to": None}), "message 1: 'reply_to' must name"),
        (file({**REPLY, "finish_reason": None}), "message 1: 'finish_reason' must say"),
        (file({**REPLY, "usage": {**USAGE, "prompt_tokens": 2**60}}), "message 1: 'usage' must be smaller"),
        (file({**REPLY, "feedback": {"rating": "up", "text": "x" * 2001}}), "message 1: 'feedback' must not be longer"),
    ],
)
def test_a_file_that_is_foreign_or_damaged_is_refused_with_what_is_wrong(body: bytes, problem: str) -> None:
    with pytest.raises(ClientError) as refused:
        parse(body)
    assert refused.value.code == "invalid_import"
    assert problem in refused.value.message
