"""The server's frames of the websocket, as marshmallow schemas: the contract of docs/protocol.md for programs.

`frames.py` builds them, `/asyncapi.json` publishes them, and the tests check every frame that they see.
"""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from chatbot.protocol.client_frames import ID_CHARACTERS
from chatbot.protocol.documents import MessageSchema

_ID = validate.Regexp(f"^{ID_CHARACTERS}$")

#: The codes of error frames.
ERROR_CODES = (
    "binary_not_supported",
    "busy",
    "empty_message",
    "invalid_frame",
    "invalid_id",
    "message_not_found",
    "message_too_long",
    "model_error",
    "not_retryable",
    "nothing_to_stop",
    "rate_limited",
    "session_damaged",
    "too_many_pending",
    "unavailable",
    "unknown_type",
)


def _type(name: str) -> fields.String:
    return fields.String(required=True, validate=validate.Equal(name))


def _id(description: str, **options: Any) -> fields.String:
    return fields.String(validate=_ID, metadata={"description": description}, **{"required": True, **options})


class SessionFrame(Schema):
    """The first frame of a socket."""

    type = _type("session")
    name = fields.String(required=True)
    session_start = fields.AwareDateTime(required=True, format="iso")
    expires_in = fields.Integer(required=True, strict=True, metadata={"description": "Seconds"})
    recovered = fields.Boolean(
        required=True,
        allow_none=True,
        metadata={
            "description": "Whether all after `after` follows; if not, fetch the newest page. Null without `after`."
        },
    )
    pending = fields.List(
        fields.String(validate=_ID), required=True, metadata={"description": "Requests without a reply, in their order"}
    )
    leaf = _id("The last message of the path that the session shows", allow_none=True)
    requests = fields.Dict(
        fields.String(validate=_ID),
        fields.String(validate=_ID),
        required=True,
        metadata={"description": "The human message of each pending regeneration"},
    )


class AckFrame(Schema):
    """The request is stored and will be answered."""

    type = _type("ack")
    id = _id("The request")
    parent = _id("What the message follows, null at the beginning", required=False, allow_none=True)
    reply_to = _id("Of a regeneration: the human message", required=False)


class RequestFrame(Schema):
    """Another socket of the session asked for another reply to a human message."""

    type = _type("request")
    id = _id("The regeneration")
    reply_to = _id("The human message")


class SelectedFrame(Schema):
    """The session shows another path."""

    type = _type("selected")
    id = _id("The last message of the path", allow_none=True)


class FeedbackFrame(Schema):
    """The user's opinion of a reply is stored, or withdrawn for a `rating` of null."""

    type = _type("feedback")
    id = _id("The reply")
    rating = fields.String(required=True, allow_none=True, validate=validate.OneOf(["up", "down"]))
    text = fields.String(required=True, allow_none=True)


class StatusFrame(Schema):
    """The reply takes longer: the model is being loaded, or failed for now."""

    type = _type("status")
    id = _id("The request")
    state = fields.String(required=True, validate=validate.OneOf(["loading", "retrying"]))
    retry_in = fields.Float(
        required=True, validate=validate.Range(0), metadata={"description": "Seconds until the next attempt"}
    )


class DeltaFrame(Schema):
    """A chunk of a reply. A client's rule is `text = text[:offset] + msg`."""

    type = _type("delta")
    id = _id("The reply")
    reply_to = _id("The human message")
    offset = fields.Integer(
        required=True, strict=True, validate=validate.Range(0), metadata={"description": "In Unicode code points"}
    )
    msg = fields.String(required=True)
    request = _id("The regeneration, if it is one", required=False)


class ReasoningFrame(DeltaFrame):
    """A chunk of what the model thinks before a reply; like a delta."""

    type = _type("reasoning")


class ShownMessageSchema(MessageSchema):
    """A message as clients of this protocol get it: of the interfaces below `/v1` nothing stands in it."""

    class Meta:
        exclude = ("items", "options", "deleted")

    finish_reason = fields.String(
        required=True, allow_none=True, validate=validate.OneOf(["stop", "length", "content_filter", "stopped"])
    )
    parent = _id("What it follows, null at the beginning", allow_none=True)


class MessageFrame(ShownMessageSchema):
    """A complete message; final, whatever the deltas contained."""

    type = _type("message")
    id = _id("The message")
    reply_to = _id("Of a reply: the human message", allow_none=True)


class ErrorFrame(Schema):
    """A frame was refused, or a reply failed for good. The socket stays open."""

    type = _type("error")
    code = fields.String(required=True, validate=validate.OneOf(ERROR_CODES))
    message = fields.String(required=True, validate=validate.Length(min=1), metadata={"description": "For the user"})
    id = _id("The request that it is about", allow_none=True)
    retry_after = fields.Float(
        required=True,
        allow_none=True,
        validate=validate.Range(0),
        metadata={"description": "Seconds after which the same may be sent again"},
    )
    reply_to = _id("Of a failed regeneration: the human message", required=False)
    # The codes are not listed: a chat of texts alone never has all of them.
    reason = fields.String(
        metadata={"description": "Of a failed reply: why every retry would fail, as an error code of the API below /v1"}
    )


#: By the `type` of the frame. `calls` is left out, as the fields of messages are that only `/v1` uses.
SERVER_FRAMES: dict[str, type[Schema]] = {
    "session": SessionFrame,
    "ack": AckFrame,
    "request": RequestFrame,
    "selected": SelectedFrame,
    "feedback": FeedbackFrame,
    "status": StatusFrame,
    "delta": DeltaFrame,
    "reasoning": ReasoningFrame,
    "message": MessageFrame,
    "error": ErrorFrame,
}
