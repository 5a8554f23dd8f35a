"""The answers of the HTTP routes, as marshmallow schemas: the contract of docs/protocol.md for programs."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from chatbot.protocol import frame_schemas
from chatbot.protocol.documents import SessionSchema
from chatbot.protocol.frame_schemas import AckFrame, ErrorFrame, MessageFrame, ShownMessageSchema

#: The codes of errors below every path but `/v1`.
ERROR_CODES = (
    "bad_request",
    "forbidden",
    "headers_too_long",
    "host_not_allowed",
    "invalid_import",
    "invalid_limit",
    "invalid_name",
    "invalid_wait",
    "method_not_allowed",
    "not_found",
    "not_ready",
    "rate_limited",
    "request_entity_too_large",
    "session_damaged",
    "session_not_found",
    "unauthorized",
    "unavailable",
    "unknown_message",
    "uri_too_long",
)


class NewSessionSchema(SessionSchema):
    """A new session. The token opens it, and is stored nowhere."""

    token = fields.String(required=True)
    messages = fields.List(fields.Nested(ShownMessageSchema), required=True, validate=validate.Length(max=0))


class HistorySchema(SessionSchema):
    """A session with a page of its history, oldest first."""

    token = fields.String(required=True)
    messages = fields.List(fields.Nested(ShownMessageSchema), required=True)
    more = fields.Boolean(required=True, metadata={"description": "Whether there are older messages"})
    before = fields.String(
        required=True, allow_none=True, metadata={"description": "Asks for the page before this one; null for none"}
    )
    leaf = fields.String(
        required=True, allow_none=True, metadata={"description": "The last message of the path that the session shows"}
    )


class ErrorBodySchema(Schema):
    """What went wrong."""

    code = fields.String(required=True, validate=validate.OneOf(ERROR_CODES))
    message = fields.String(required=True, metadata={"description": "For the user"})


class ErrorSchema(Schema):
    """A request was refused or could not be served."""

    error = fields.Nested(ErrorBodySchema, required=True)


class AliveSchema(Schema):
    """The process serves."""

    status = fields.String(required=True, validate=validate.Equal("ok"))


class _PartsSchema(Schema):
    """The state of each part: `ok`, or the problem."""

    redis = fields.String(required=True)
    redisjson = fields.String(required=True)
    listener = fields.String(required=True)
    workers = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Workers that ran a task lately; null when unknown"}
    )
    workers_silent = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Workers that did not, and did not shut down"}
    )
    canary = fields.Float(
        required=True, allow_none=True, metadata={"description": "Seconds since a worker last ran a task"}
    )


class ReadySchema(_PartsSchema):
    """The process can serve a chat."""

    status = fields.String(required=True, validate=validate.Equal("ready"))


class NotReadySchema(_PartsSchema):
    """The process cannot serve a chat; the parts say why."""

    status = fields.String(required=True, validate=validate.Equal("not ready"))
    error = fields.Nested(ErrorBodySchema, required=True)


class SentSchema(AckFrame):
    """The frame is stored: its `ack`, and what a repeated one has led to."""

    reply = fields.Nested(MessageFrame)
    failure = fields.Nested(ErrorFrame)


class _FrameErrorSchema(ErrorBodySchema):
    """What is wrong with a request or with its frame, whose error has the fields of an error frame."""

    type = fields.String(validate=validate.Equal("error"))
    code = fields.String(required=True, validate=validate.OneOf(sorted({*ERROR_CODES, *frame_schemas.ERROR_CODES})))
    id = fields.String(allow_none=True)
    retry_after = fields.Float(allow_none=True)


class FrameRefusalSchema(Schema):
    """A request was refused, or its frame."""

    error = fields.Nested(_FrameErrorSchema, required=True)


class PollSchema(Schema):
    """What happened since the last poll."""

    after = fields.String(required=True, metadata={"description": "Asks for what comes later"})
    frames = fields.List(
        fields.Dict(), required=True, metadata={"description": "As on the websocket: see the AsyncAPI document"}
    )
