"""A chat as a file: what the page exports as JSON, parsed and checked when it is imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.client_frames import ID_CHARACTERS
from chatbot.protocol.documents import MAX_FEEDBACK_LENGTH, RATINGS, NameSchema, Text, UsageSchema
from chatbot.protocol.problems import first_problem

_FOREIGN = "This file is not a chat that was exported here as JSON"
#: The greatest integer that JavaScript can represent exactly.
_MAX_INTEGER = 2**53 - 1
#: Messages that are checked between two calls of `breathe`: about 5 ms.
_BATCH = 100
_ID = validate.Regexp(rf"{ID_CHARACTERS}\Z", error="must have 1 to 64 characters of A-Z, a-z, 0-9, _ and -")


class _Timestamp(Text):
    """An RFC 3339 time."""

    default_error_messages = {"time": "must be a time"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            aware = len(text) < 40 and datetime.fromisoformat(text).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            raise self.make_error("time")
        return text


class _ChatFilePart(Schema):
    """A part of a file. Fields that are not known here are dropped, such as those of later versions."""

    class Meta:
        unknown = EXCLUDE


class ImportedUsageSchema(_ChatFilePart, UsageSchema):
    """The tokens of a reply."""

    @pre_load
    def check_size(self, data: Any, **_: Any) -> Any:
        if isinstance(data, dict) and any(type(value) is int and value > _MAX_INTEGER for value in data.values()):
            raise ValidationError("must be smaller")
        return data


class ImportedFeedbackSchema(_ChatFilePart):
    """A user's opinion of a reply."""

    rating = fields.String(required=True, validate=validate.OneOf(RATINGS))
    text = Text(load_default=None, allow_none=True, validate=validate.Length(max=MAX_FEEDBACK_LENGTH))


class ImportedMessageSchema(_ChatFilePart):
    """A message of a file, as the history has it."""

    id = Text(required=True, validate=_ID)
    source = fields.String(required=True, validate=validate.OneOf(["human", "bot"]))
    msg = Text(required=True)
    timestamp = _Timestamp(required=True)
    reply_to = Text(load_default=None, allow_none=True, validate=_ID)
    finish_reason = fields.String(
        load_default=None, allow_none=True, validate=validate.OneOf(["stop", "length", "content_filter", "stopped"])
    )
    parent = Text(allow_none=True, validate=_ID)
    request = Text(validate=_ID)
    reasoning = Text()
    usage = fields.Nested(ImportedUsageSchema)
    feedback = fields.Nested(ImportedFeedbackSchema)


class ChatFileSchema(NameSchema):
    """The file of a chat: its messages in the order of the history, a path's end, and the user's name."""

    messages = fields.List(fields.Nested(ImportedMessageSchema), required=True, validate=validate.Length(min=1))
    leaf = Text(allow_none=True, validate=_ID)


class _OutlineSchema(NameSchema):
    """A file whose messages have not been checked."""

    messages = fields.List(fields.Raw(), required=True)
    leaf = Text(load_default=None, allow_none=True, validate=_ID)


@dataclass(frozen=True, slots=True)
class ChatFile:
    """An exported chat, each part of it checked; how its messages belong together is not."""

    name: str
    messages: list[dict[str, Any]]
    #: The last message of the path that was shown, if the file names it.
    leaf: str | None


_OUTLINE, _MESSAGES = _OutlineSchema(), ImportedMessageSchema(many=True)


def parse_chat_file(
    body: bytes, *, max_messages: int, max_length: int, breathe: Callable[[], None] = lambda: None
) -> ChatFile:
    """The chat in a file: at most `max_messages` (0 for no limit), those of users of `max_length` characters.

    `breathe` is called from time to time, as a long file takes long. Raises `ClientError` `invalid_import`.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise invalid_import(f"{_FOREIGN}: it cannot be read, or is incomplete") from None
    if not isinstance(document, dict) or not isinstance(document.get("messages"), list):
        raise invalid_import(_FOREIGN)
    try:
        outline = _OUTLINE.load(document)
    except ValidationError as error:
        raise invalid_import(f"The file is damaged: {_described(error)}") from None
    found = outline["messages"]
    if not found:
        raise invalid_import("The file holds no messages")
    if max_messages and len(found) > max_messages:
        raise invalid_import(f"The file has {len(found)} messages, and a chat has at most {max_messages}")
    messages: list[dict[str, Any]] = []
    for first in range(0, len(found), _BATCH):
        breathe()
        messages += _load(found, first, max_length)
    return ChatFile(outline["name"], messages, outline["leaf"])


def invalid_import(message: str) -> ClientError:
    """The error about a file, with a text for the user."""
    return ClientError("invalid_import", message)


def _load(found: list[Any], first: int, max_length: int) -> list[dict[str, Any]]:
    try:
        messages: list[dict[str, Any]] = _MESSAGES.load(found[first : first + _BATCH])
    except ValidationError as error:
        wrong: Any = error.messages
        number = min(wrong) if isinstance(wrong, dict) else 0
        about = _described(ValidationError(wrong[number])) if isinstance(wrong, dict) else first_problem(error)
        raise _damaged(first + number, about) from None
    for number, message in enumerate(messages, first):
        if message["source"] == "human" and not 0 < len(message["msg"].strip()) <= len(message["msg"]) <= max_length:
            raise _damaged(number, f"'msg' must have 1 to {max_length} characters")
        if (message["source"] == "bot") != (message["reply_to"] is not None):
            raise _damaged(number, "'reply_to' must name the message of a reply, and of a reply only")
        if (message["source"] == "bot") != (message["finish_reason"] is not None):
            raise _damaged(number, "'finish_reason' must say why a reply ended, and of a reply only")
    return messages


def _damaged(number: int, problem: str) -> ClientError:
    return invalid_import(f"The file is damaged: message {number + 1}: {problem}")


def _described(error: ValidationError) -> str:
    """The first problem, with the field that has it."""
    wrong = error.messages
    field = next(iter(wrong)) if isinstance(wrong, dict) else None
    return first_problem(error) if field in (None, "_schema") else f"{field!r} {first_problem(error)}"
