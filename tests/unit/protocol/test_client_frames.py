"""What clients send, parsed and checked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.client_frames import LEAF, ClientFrame, parse_frame


def parsed(**frame: Any) -> ClientFrame:
    return parse_frame(json.dumps(frame), 100)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"type": "message", "msg": "hi"}, ClientFrame("message", "hi", parent=LEAF)),
        ({"type": "message", "msg": "hi", "id": None, "parent": None}, ClientFrame("message", "hi", parent=None)),
        (
            {"type": "message", "msg": "hi", "parent": "r1", "on_busy": "reject"},
            ClientFrame("message", "hi", parent="r1", on_busy="reject"),
        ),
        # Fields that a type does not have are ignored, whatever they hold.
        ({"type": "message", "msg": "hi", "text": 5, "rating": "x", "of": {}}, ClientFrame("message", "hi")),
        ({"type": "stop", "parent": 7}, ClientFrame("stop")),
        ({"type": "edit", "of": "m1", "msg": "ho", "id": "m2"}, ClientFrame("edit", "ho", "m2", "m1")),
        ({"type": "regenerate", "of": "m1"}, ClientFrame("regenerate", of="m1")),
        ({"type": "select", "id": "m1"}, ClientFrame("select", id="m1")),
        ({"type": "feedback", "id": "r1", "rating": None}, ClientFrame("feedback", id="r1")),
        (
            {"type": "feedback", "id": "r1", "rating": "up", "text": "good"},
            ClientFrame("feedback", id="r1", rating="up", text="good"),
        ),
    ],
)
def test_a_frame_is_parsed(frame: dict[str, Any], expected: ClientFrame) -> None:
    assert parsed(**frame) == expected


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "edit", "of": "m1"}, "invalid_frame"),
        ({"type": "edit", "of": "m1", "msg": " "}, "empty_message"),
        ({"type": "message", "msg": "\x00\x1b\u200b\n"}, "empty_message"),
        ({"type": "edit", "of": "m1", "msg": "x" * 101}, "message_too_long"),
        ({"type": "edit", "msg": "text"}, "invalid_frame"),
        ({"type": "edit", "of": "not an id", "msg": "text"}, "invalid_id"),
        ({"type": "message", "msg": "text", "parent": "*"}, "invalid_id"),
        ({"type": "message", "msg": "text", "on_busy": "shout"}, "invalid_frame"),
        ({"type": "regenerate"}, "invalid_frame"),
        ({"type": "select"}, "invalid_id"),
        ({"type": "feedback", "rating": "up"}, "invalid_id"),
        ({"type": "feedback", "id": "r1"}, "invalid_frame"),
        ({"type": "feedback", "id": "r1", "rating": "sideways"}, "invalid_frame"),
        ({"type": "feedback", "id": "r1", "rating": "up", "text": "x" * 2001}, "message_too_long"),
        ({"type": "feedback", "id": "r1", "rating": "up", "text": "\ud800"}, "invalid_frame"),
        ({"type": "applaud", "id": "r1"}, "unknown_type"),
        ({"id": "r1"}, "invalid_frame"),
        ({"type": ["message"]}, "invalid_frame"),
    ],
)
def test_a_wrong_frame_is_refused(frame: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as refused:
        parsed(**frame)
    assert refused.value.code == code


@pytest.mark.parametrize("name", ["parent", "of"])
@pytest.mark.parametrize("value", ["not an id", 7])
def test_a_wrong_id_is_named_and_the_error_is_about_the_frame_that_has_it(name: str, value: object) -> None:
    kind = {"parent": "message", "of": "edit"}[name]
    with pytest.raises(ClientError, match=f"'{name}' must be an id") as refused:
        parsed(type=kind, msg="text", id="m1", **{name: value})
    assert refused.value.message_id == "m1"


def test_what_a_validator_finds_is_a_sentence() -> None:
    with pytest.raises(ClientError) as refused:
        parsed(type="message", msg="hi", on_busy="shout")
    assert refused.value.message == "'on_busy' must be one of queue, interrupt, reject"
