"""The frames that clients send on the websocket: parsed and checked. The contract is docs/protocol.md."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.documents import MAX_FEEDBACK_LENGTH, RATINGS, Text, is_text, is_visible
from chatbot.protocol.problems import first_problem

ID_CHARACTERS = "[A-Za-z0-9_-]{1,64}"
MESSAGE_ID = re.compile(rf"{ID_CHARACTERS}\Z")
#: In place of a parent's id: the end of the path that the session shows. No id of a message.
LEAF: Final = "*"

OnBusy = Literal["queue", "interrupt", "reject"]
Rating = Literal["up", "down"]

#: For each type the fields that it needs, besides `type`, and those that it may have.
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "message": (("msg",), ("id", "parent", "on_busy")),
    "edit": (("of", "msg"), ("id", "on_busy")),
    "regenerate": (("of",), ("id", "on_busy")),
    "select": (("id",), ()),
    "stop": ((), ("id",)),
    "retry": (("id",), ()),
    "feedback": (("id", "rating"), ("text",)),
}
#: The fields of most frames.
_PLAIN = frozenset({"type", "msg", "id"})
_ID_FIELDS = ("id", "of", "parent")
#: What `id` names where a client must give it.
_NAMED = {"retry": "the message to answer again", "select": "the message to show", "feedback": "the reply"}


class _ClientFrameSchema(Schema):
    """A JSON frame of any type; `parse_frame` checks what each type needs."""

    class Meta:
        unknown = EXCLUDE

    type = fields.String(required=True)
    msg = Text()
    id = Text(allow_none=True)
    of = Text()
    parent = Text(allow_none=True)
    on_busy = fields.String(validate=validate.OneOf(["queue", "interrupt", "reject"]))
    rating = fields.String(allow_none=True, validate=validate.OneOf(RATINGS))
    text = Text(allow_none=True)


def _frame_schema(kind: str, needed: Sequence[str], optional: Sequence[str]) -> type[Schema]:
    """The schema of one type of frame."""
    declared: dict[str, Any] = {"type": fields.String(required=True, validate=validate.Equal(kind))}
    for name in (*needed, *optional):
        field = copy.deepcopy(_ClientFrameSchema._declared_fields[name])
        field.required = name in needed
        # Null names nothing; it withdraws a rating.
        field.allow_none = field.allow_none and (name not in needed or name == "rating")
        if name in _ID_FIELDS:
            field.validators = [validate.Regexp(f"^{ID_CHARACTERS}$")]
        declared[name] = field
    return Schema.from_dict(declared, name=f"Client{kind.capitalize()}Frame")


_FRAME = _ClientFrameSchema()
#: What a client may send, by the type of the frame: the schemas of the contract. `parse_frame` is the check.
CLIENT_FRAMES: dict[str, type[Schema]] = {
    kind: _frame_schema(kind, needed, optional) for kind, (needed, optional) in _FIELDS.items()
}


@dataclass(frozen=True, slots=True)
class ClientFrame:
    """A frame of a client; a field that its type does not have has its default."""

    type: str
    msg: str = ""
    #: None where the client gave none.
    id: str | None = None
    #: The message to edit, or the message or reply to regenerate.
    of: str = ""
    #: The message that a new one follows: None is the beginning.
    parent: str | None = LEAF
    on_busy: OnBusy = "queue"
    rating: Rating | None = None
    text: str | None = None


def parse_frame(text: str, max_length: int) -> ClientFrame:
    """A client's text frame; one that is not a JSON object is a message, as typed.

    Raises `ClientError`: `empty_message`, `message_too_long`, `invalid_id`, `invalid_frame`, `unknown_type`.
    """
    document = _json_object(text)
    if document is None:
        return ClientFrame("message", _message_text(text, max_length, None))
    if document.keys() == _PLAIN and document["type"] == "message":
        text, message_id = document["msg"], document["id"]
        # The schema costs ten times as much.
        if type(text) is str and type(message_id) is str and MESSAGE_ID.match(message_id) and is_text(text):
            return ClientFrame("message", _message_text(text, max_length, message_id), message_id)
    kind = document.get("type")
    needed, optional = _FIELDS.get(kind, ((), ("id",))) if isinstance(kind, str) else ((), ())
    frame = _load({name: document[name] for name in ("type", *needed, *optional) if name in document})
    message_id, kind = frame.get("id"), frame["type"]
    if kind not in _FIELDS:
        raise ClientError("unknown_type", f"The types are {', '.join(_FIELDS)}", message_id=message_id)
    if message_id is None and "id" in needed:
        raise ClientError("invalid_id", f"'id' must name {_NAMED[kind]}")
    for name in needed:
        if name not in frame:
            raise ClientError("invalid_frame", f"{name!r} is missing", message_id=message_id)
    if kind in ("message", "edit"):
        frame["msg"] = _message_text(frame["msg"], max_length, message_id)
    if kind == "feedback" and len(frame.get("text") or "") > MAX_FEEDBACK_LENGTH:
        raise ClientError(
            "message_too_long", f"A comment has at most {MAX_FEEDBACK_LENGTH} characters", message_id=message_id
        )
    return ClientFrame(**frame)


def _load(document: dict[str, Any]) -> dict[str, Any]:
    """The frame's known fields. Raises `ClientError`."""
    try:
        frame: dict[str, Any] = _FRAME.load(document)
    except ValidationError as problem:
        wrong = problem.messages if isinstance(problem.messages, dict) else {}
        for name in _ID_FIELDS:
            if name in wrong:
                _refuse_id(name, document)
        field = next(iter(wrong), "frame")
        raise ClientError("invalid_frame", f"{field!r} {first_problem(problem)}", message_id=_about(document)) from None
    for name in _ID_FIELDS:
        if frame.get(name) is not None and not MESSAGE_ID.match(frame[name]):
            _refuse_id(name, document)
    return frame


def _about(document: Mapping[str, Any]) -> str | None:
    """The frame's id, if it is one."""
    known = document.get("id")
    return known if isinstance(known, str) and MESSAGE_ID.match(known) else None


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(text)
    except RecursionError:
        raise ClientError("invalid_frame", "The JSON is nested too deeply") from None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _message_text(text: str, max_length: int, message_id: str | None) -> str:
    if not is_visible(text):
        raise ClientError("empty_message", "The message is empty", message_id=message_id)
    if len(text) > max_length:
        raise ClientError("message_too_long", f"A message has at most {max_length} characters", message_id=message_id)
    return text


def _refuse_id(name: str, document: Mapping[str, Any]) -> NoReturn:
    text = f"{name!r} must be an id: 1 to 64 characters of A-Z, a-z, 0-9, _ and -"
    raise ClientError("invalid_id", text, message_id=_about(document))
