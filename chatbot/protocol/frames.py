"""The frames of the websocket: parses those of clients, builds those of the server.

The contract is docs/protocol.md. The server's frames are dictionaries, to be encoded by `to_json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

from marshmallow import EXCLUDE, Schema, ValidationError, fields

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.documents import Text, first_problem

MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
FRAME_TYPES = ("message", "stop", "retry")


class ClientFrameSchema(Schema):
    """A JSON frame from a client, of any type; `parse_frame` checks what each type requires."""

    class Meta:
        unknown = EXCLUDE

    type = fields.String(required=True)
    msg = Text()
    id = Text(allow_none=True)


_FRAME = ClientFrameSchema()


def parse_frame(text: str, max_length: int) -> dict[str, str | None]:
    """A client's text frame as `{"type", "msg", "id"}`, `id` None where the client gave none.

    Raises `ClientError`: `empty_message`, `message_too_long`, `invalid_id`, `invalid_frame`, `unknown_type`.
    """
    document = _json_object(text)
    if document is None:
        return {"type": "message", "msg": _message_text(text, max_length, None), "id": None}
    try:
        frame: dict[str, Any] = _FRAME.load(document)
    except ValidationError as problem:
        if isinstance(problem.messages, dict) and "id" in problem.messages:
            _refuse_id()
        known = document.get("id")
        about = known if isinstance(known, str) and MESSAGE_ID.match(known) else None
        field = next(iter(problem.messages), "frame") if isinstance(problem.messages, dict) else "frame"
        raise ClientError("invalid_frame", f"{field!r} {first_problem(problem)}", message_id=about) from None
    message_id = frame.get("id")
    if message_id is not None and not MESSAGE_ID.match(message_id):
        _refuse_id()
    kind = frame["type"]
    if kind not in FRAME_TYPES:
        raise ClientError("unknown_type", f"The types are {', '.join(FRAME_TYPES)}", message_id=message_id)
    if kind == "message":
        if "msg" not in frame:
            raise ClientError("invalid_frame", "'msg' is missing", message_id=message_id)
        frame["msg"] = _message_text(frame["msg"], max_length, message_id)
    elif kind == "retry" and message_id is None:
        raise ClientError("invalid_id", "'id' must name the message to answer again")
    return {"type": kind, "msg": frame.get("msg"), "id": message_id}


def session_frame(
    name: str, session_start: str, expires_in: float, recovered: bool | None, pending: list[str]
) -> dict[str, Any]:
    """The first frame of a socket; `expires_in` in seconds, `pending` the ids of unanswered messages."""
    return {
        "type": "session",
        "name": name,
        "session_start": session_start,
        "expires_in": round(expires_in),
        "recovered": recovered,
        "pending": pending,
    }


def ack(message_id: str) -> dict[str, Any]:
    """The message is stored and will be answered."""
    return {"type": "ack", "id": message_id}


def status(message_id: str, state: Literal["loading", "retrying"], retry_in: float | None) -> dict[str, Any]:
    """The reply is delayed; the next attempt is in `retry_in` seconds."""
    return {
        "type": "status",
        "id": message_id,
        "state": state,
        "retry_in": retry_in if retry_in is None else round(retry_in, 1),
    }


def delta(reply_id: str, reply_to: str, offset: int, text: str) -> dict[str, Any]:
    """A part of a reply, at the code point `offset`."""
    return {"type": "delta", "id": reply_id, "reply_to": reply_to, "offset": offset, "msg": text}


def reasoning(reply_id: str, reply_to: str, offset: int, text: str) -> dict[str, Any]:
    """A part of the model's reasoning before or during a reply, at the code point `offset`."""
    return {"type": "reasoning", "id": reply_id, "reply_to": reply_to, "offset": offset, "msg": text}


def message(document: Mapping[str, Any]) -> dict[str, Any]:
    """A complete stored message."""
    return {"type": "message", **document}


def error(refusal: ClientError) -> dict[str, Any]:
    """The client's frame was refused."""
    return _error(refusal.code, refusal.message, refusal.message_id, refusal.retry_after)


def failure(message_id: str, text: str) -> dict[str, Any]:
    """The reply to a message failed permanently; `text` is shown to the user."""
    return _error("model_error", text, message_id, None)


def _error(code: str, text: str, message_id: str | None, retry_after: float | None) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": text, "id": message_id, "retry_after": retry_after}


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
    if not text.strip():
        raise ClientError("empty_message", "The message is empty", message_id=message_id)
    if len(text) > max_length:
        raise ClientError("message_too_long", f"A message has at most {max_length} characters", message_id=message_id)
    return text


def _refuse_id() -> NoReturn:
    raise ClientError("invalid_id", "An id has 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
