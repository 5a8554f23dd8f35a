"""The server's frames have exactly the fields of docs/protocol.md."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import Schema, fields, validate

from chatbot.protocol import frames
from chatbot.protocol.client_errors import ClientError, RateLimited
from chatbot.protocol.documents import bot_message, human_message

ID = validate.Regexp(r"[A-Za-z0-9_-]{1,64}$")


class SessionFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("session"))
    name = fields.String(required=True)
    session_start = fields.String(required=True)
    expires_in = fields.Integer(required=True, strict=True)
    recovered = fields.Boolean(required=True, allow_none=True)
    pending = fields.List(fields.String(validate=ID), required=True)
    leaf = fields.String(required=True, allow_none=True, validate=ID)
    requests = fields.Dict(fields.String(validate=ID), fields.String(validate=ID), required=True)


class AckFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("ack"))
    id = fields.String(required=True, validate=ID)
    parent = fields.String(allow_none=True, validate=ID)
    reply_to = fields.String(validate=ID)


class RequestFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("request"))
    id = fields.String(required=True, validate=ID)
    reply_to = fields.String(required=True, validate=ID)


class SelectedFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("selected"))
    id = fields.String(required=True, allow_none=True, validate=ID)


class FeedbackFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("feedback"))
    id = fields.String(required=True, validate=ID)
    rating = fields.String(required=True, allow_none=True, validate=validate.OneOf(["up", "down"]))
    text = fields.String(required=True, allow_none=True)


class StatusFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("status"))
    id = fields.String(required=True, validate=ID)
    state = fields.String(required=True, validate=validate.OneOf(["loading", "retrying"]))
    retry_in = fields.Float(required=True, allow_none=True, validate=validate.Range(0))


class DeltaFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("delta"))
    id = fields.String(required=True, validate=ID)
    reply_to = fields.String(required=True, validate=ID)
    offset = fields.Integer(required=True, strict=True, validate=validate.Range(0))
    msg = fields.String(required=True)
    request = fields.String(validate=ID)


class MessageFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("message"))
    id = fields.String(required=True, validate=ID)
    source = fields.String(required=True, validate=validate.OneOf(["human", "bot"]))
    msg = fields.String(required=True)
    timestamp = fields.AwareDateTime(required=True, format="iso")
    reply_to = fields.String(required=True, allow_none=True, validate=ID)
    finish_reason = fields.String(
        required=True, allow_none=True, validate=validate.OneOf(["stop", "length", "stopped"])
    )
    parent = fields.String(required=True, allow_none=True, validate=ID)
    request = fields.String(validate=ID)


class ErrorFrame(Schema):
    type = fields.String(required=True, validate=validate.Equal("error"))
    code = fields.String(required=True)
    message = fields.String(required=True, validate=validate.Length(min=1))
    id = fields.String(required=True, allow_none=True, validate=ID)
    retry_after = fields.Float(required=True, allow_none=True, validate=validate.Range(0))
    reply_to = fields.String(validate=ID)


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
        (StatusFrame, frames.status("m1", "retrying", None)),
        (DeltaFrame, frames.delta("r1", "m1", 0, "Hello")),
        (MessageFrame, frames.message(human_message("m1", "Hello"))),
        (MessageFrame, frames.message(bot_message("r1", "Hello", "m1", "length"))),
        (ErrorFrame, frames.error(ClientError("empty_message", "The message is empty"))),
        (ErrorFrame, frames.error(RateLimited(1.23, "m1"))),
        (ErrorFrame, frames.failure("m1", "The model could not answer this message.")),
    ],
)
def test_a_frame_has_the_fields_of_the_contract(schema: type[Schema], frame: dict[str, Any]) -> None:
    assert schema().validate(frame) == {}


def test_a_failure_has_the_id_of_its_message_and_no_retry_after() -> None:
    frame = frames.failure("m1", "It failed.")
    assert (frame["code"], frame["id"], frame["retry_after"]) == ("model_error", "m1", None)
