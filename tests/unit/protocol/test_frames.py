"""The server's frames have exactly the fields of docs/protocol.md."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import Schema

from chatbot.protocol import frames
from chatbot.protocol.client_errors import ClientError, RateLimited
from chatbot.protocol.documents import bot_message, human_message
from chatbot.protocol.frame_schemas import (
    AckFrame,
    DeltaFrame,
    ErrorFrame,
    FeedbackFrame,
    MessageFrame,
    ReasoningFrame,
    RequestFrame,
    SelectedFrame,
    SessionFrame,
    StatusFrame,
)
from chatbot.protocol.openai import failures


@pytest.mark.parametrize(
    ("schema", "frame"),
    [
        (SessionFrame, frames.session_frame("Ada", "2026-01-01T00:00:00Z", 3599.6, None, ["m1"], "m1", {})),
        (SessionFrame, frames.session_frame("Ada", "2026-01-01T00:00:00Z", 3600, True, ["q1"], None, {"q1": "m1"})),
        (AckFrame, frames.ack("m1", {})),
        (AckFrame, frames.ack("m1", {"parent": None})),
        (AckFrame, frames.ack("q1", {"reply_to": "m1"})),
        (RequestFrame, frames.request("q1", "m1")),
        (SelectedFrame, frames.selected("m1")),
        (FeedbackFrame, frames.feedback("r1", "up", None)),
        (FeedbackFrame, frames.feedback("r1", None, None)),
        (DeltaFrame, frames.delta("r1", "m1", 0, "Hello", "q1")),
        (MessageFrame, frames.message(human_message("m1", "Hello", "r0"))),
        (MessageFrame, frames.message(bot_message("r1", "Hello", "m1", "length", "q1"))),
        (ErrorFrame, frames.failure("q1", "The model could not answer this message.", "m1")),
        (StatusFrame, frames.status("m1", "loading", 1.23456)),
        (ReasoningFrame, frames.reasoning("r1", "m1", 0, "Hm", "q1")),
        (DeltaFrame, frames.delta("r1", "m1", 0, "Hello")),
        (MessageFrame, frames.message(human_message("m1", "Hello"))),
        (MessageFrame, frames.message(bot_message("r1", "Hello", "m1", "length"))),
        (ErrorFrame, frames.error(ClientError("empty_message", "The message is empty"))),
        (ErrorFrame, frames.error(RateLimited(1.23, "m1"))),
        (ErrorFrame, frames.failure("m1", "The model could not answer this message.")),
        (ErrorFrame, frames.failure("m1", failures.TOO_LONG)),
    ],
)
def test_a_frame_has_the_fields_of_the_contract(schema: type[Schema], frame: dict[str, Any]) -> None:
    assert schema().validate(frame) == {}


def test_a_failure_has_the_id_of_its_message_and_no_retry_after() -> None:
    frame = frames.failure("m1", "It failed.")
    assert (frame["code"], frame["id"], frame["retry_after"]) == ("model_error", "m1", None)
    assert "reason" not in frame


def test_a_failure_that_a_retry_would_repeat_has_a_reason() -> None:
    assert frames.failure("m1", failures.CONTENT)["reason"] == "content_filter"
