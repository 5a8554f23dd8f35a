"""The documents of the wire contract and of RedisJSON: a session, its messages, and the body of `POST /token`."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.problems import first_problem

MAX_NAME_LENGTH = 64
#: Of the text of a user's feedback.
MAX_FEEDBACK_LENGTH = 2000
RATINGS = ("up", "down")
#: Unicode categories of characters that are invisible on their own.
_INVISIBLE = frozenset({"Cc", "Cf", "Mn", "Zl", "Zp", "Zs"})
#: Blank characters of visible categories: the Hangul fillers and the empty Braille cell.
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def utc_now() -> str:
    """The current time: RFC 3339, UTC, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8: it has no lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Text(fields.Field[str]):
    """A string without lone surrogates, which JSON can express and UTF-8 cannot."""

    default_error_messages = {
        "invalid": "must be text",
        "surrogate": "holds half of a surrogate pair",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise self.make_error("invalid")
        if not is_text(value):
            raise self.make_error("surrogate")
        return value


class _Name(Text):
    """A user's name: stripped, without control characters, with at least one visible character."""

    default_error_messages = {
        "blank": "must not be blank",
        "long": f"must have at most {MAX_NAME_LENGTH} characters",
        "control": "must not hold control characters",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = super()._deserialize(value, attr, data, **kwargs).strip()
        if not is_visible(name):
            raise self.make_error("blank")
        if len(name) > MAX_NAME_LENGTH:
            raise self.make_error("long")
        # Not `isprintable`: real names contain joiners and direction marks.
        if any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in name):
            raise self.make_error("control")
        return name


def is_visible(text: str) -> bool:
    """Whether a text has a character that is visible on its own: no space, control, filler, format or combining one."""
    return any(c not in _FILLERS and unicodedata.category(c) not in _INVISIBLE for c in text)


class NameSchema(Schema):
    """The body of `POST /token`."""

    class Meta:
        unknown = EXCLUDE

    name = _Name(required=True, error_messages={"required": "is missing", "null": "is missing"})


#: Why a reply ended; `interrupted`: it could not go on where it was, and a changed text would not do.
FINISH_REASONS = ("stop", "length", "content_filter", "stopped", "interrupted")


class FeedbackSchema(Schema):
    """A user's opinion of a reply."""

    rating = fields.String(required=True, validate=validate.OneOf(RATINGS))
    text = fields.String(required=True, allow_none=True, validate=validate.Length(max=MAX_FEEDBACK_LENGTH))


class UsageSchema(Schema):
    """The tokens of a reply, thinking included; `cached_tokens` are those of the prompt that were not read again."""

    prompt_tokens = fields.Integer(required=True, validate=validate.Range(min=0))
    cached_tokens = fields.Integer(required=True, validate=validate.Range(min=0))
    completion_tokens = fields.Integer(required=True, validate=validate.Range(min=0))
    #: Whether the model server did not report the numbers.
    estimated = fields.Boolean()


class MessageSchema(Schema):
    """A stored message. Those of versions without branches have no `parent`."""

    id = fields.String(required=True)
    source = fields.String(required=True, validate=validate.OneOf(["human", "bot"]))
    msg = fields.String(required=True)
    timestamp = fields.String(required=True)
    reply_to = fields.String(required=True, allow_none=True)
    finish_reason = fields.String(required=True, allow_none=True, validate=validate.OneOf(FINISH_REASONS))
    reasoning = fields.String()
    #: Of a request of OpenAI's interfaces: its items unless they are one text, and what else the model is asked. Of a
    #: reply: its function calls. See protocol/openai/.
    items = fields.List(fields.Dict())
    options = fields.Dict()
    #: What the message said was deleted.
    deleted = fields.Boolean()
    usage = fields.Nested(UsageSchema)
    #: The message that it follows, or the request when that had no reply yet; null at the beginning.
    parent = fields.String(allow_none=True)
    #: Of a reply to a regeneration: the regeneration's id.
    request = fields.String()
    feedback = fields.Nested(FeedbackSchema)


class SessionSchema(Schema):
    """A stored session: the RedisJSON document."""

    name = fields.String(required=True)
    session_start = fields.String(required=True)
    messages = fields.List(fields.Nested(MessageSchema), required=True)


#: Fields of a message whose values have a shape of their own.
_CHECKED = frozenset({"items", "options"})
_REASONS = frozenset({None, *FINISH_REASONS})
_NAME = NameSchema()
_MESSAGE = MessageSchema()
_SESSION = SessionSchema()
_FEEDBACK = FeedbackSchema()


def parse_name(document: Any) -> str:
    """The name in the body of `POST /token`. Raises `ClientError` `invalid_name`."""
    try:
        return str(_NAME.load(document)["name"])
    except ValidationError as error:
        raise ClientError(
            "invalid_name", f'The name {first_problem(error)}: send {{"name": "Ada"}}, at most 64 characters'
        ) from None


def human_message(
    message_id: str, text: str, parent: str | None = None, *, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A user's message in its stored form; `parent` is the last field. `extra` has the fields `items` and `options`."""
    return _message(message_id, "human", text, None, None, {**(extra or {}), "parent": parent})


def bot_message(
    reply_id: str,
    text: str,
    reply_to: str,
    finish_reason: str,
    request: str | None = None,
    reasoning: str = "",
    usage: Mapping[str, Any] | None = None,
    items: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A reply in its stored form; `request` is the regeneration that it answers, if any.

    It has the fields `reasoning`, `usage` and `items` only when there are some.
    """
    further: dict[str, Any] = {"parent": reply_to} if request is None else {"parent": reply_to, "request": request}
    if reasoning:
        further["reasoning"] = reasoning
    if usage:
        further["usage"] = dict(usage)
    if items:
        further["items"] = list(items)
    return _message(reply_id, "bot", text, reply_to, finish_reason, further)


def feedback(rating: str, text: str | None) -> dict[str, Any]:
    """A user's opinion of a reply, in its stored form."""
    document = {"rating": rating, "text": text}
    _check(_FEEDBACK, document)
    return document


def new_session(name: str) -> dict[str, Any]:
    """A session's document before its first message."""
    document = {"name": name, "session_start": utc_now(), "messages": []}
    _check(_SESSION, document)
    return document


def _message(
    message_id: str,
    source: str,
    text: str,
    reply_to: str | None,
    finish_reason: str | None,
    further: dict[str, Any],
) -> dict[str, Any]:
    document = {
        "id": message_id,
        "source": source,
        "msg": text,
        "timestamp": utc_now(),
        "reply_to": reply_to,
        "finish_reason": finish_reason,
        **further,
    }
    # What clients and model servers shape is checked; the rest has its types from this module, and its tests.
    if not _CHECKED.isdisjoint(further) or finish_reason not in _REASONS:
        _check(_MESSAGE, document)
    return document


def _check(schema: Schema, document: dict[str, Any]) -> None:
    problems = schema.validate(document)
    if problems:
        raise ValueError(f"not a {type(schema).__name__}: fields {sorted(problems)}")
