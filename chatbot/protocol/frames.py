"""Builds the server's frames of the websocket: dictionaries, to be encoded by `to_json`.

The contract is docs/protocol.md; `client_frames.py` parses those of clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai import failures


def session_frame(
    name: str,
    session_start: str,
    expires_in: float,
    recovered: bool | None,
    pending: list[str],
    leaf: str | None,
    requests: Mapping[str, str],
) -> dict[str, Any]:
    """The first frame of a socket; `expires_in` in seconds, `pending` the ids of unanswered requests.

    `leaf` is the id of the last message of the path that the session shows; `requests` names for each regeneration
    without a reply its human message.
    """
    return {
        "type": "session",
        "name": name,
        "session_start": session_start,
        "expires_in": round(expires_in),
        "recovered": recovered,
        "pending": pending,
        "leaf": leaf,
        "requests": dict(requests),
    }


def ack(request_id: str, about: Mapping[str, str | None]) -> dict[str, Any]:
    """The request is stored and will be answered. `about`: the `parent` of a message, a regeneration's `reply_to`."""
    return {"type": "ack", "id": request_id, **about}


def request(request_id: str, reply_to: str) -> dict[str, Any]:
    """Another reply to the human message `reply_to` was requested. scripts/regenerate.lua publishes the same."""
    return {"type": "request", "id": request_id, "reply_to": reply_to}


def selected(leaf: str | None) -> dict[str, Any]:
    """The session shows the path that ends with the message `leaf`. scripts/select.lua publishes the same."""
    return {"type": "selected", "id": leaf}


def feedback(reply_id: str, rating: str | None, text: str | None) -> dict[str, Any]:
    """The user's opinion of a reply; without a `rating` it was withdrawn."""
    return {"type": "feedback", "id": reply_id, "rating": rating, "text": text}


def status(message_id: str, state: Literal["loading", "retrying"], retry_in: float) -> dict[str, Any]:
    """The reply is delayed; the next attempt is in `retry_in` seconds."""
    return {
        "type": "status",
        "id": message_id,
        "state": state,
        "retry_in": round(retry_in, 1),
    }


def delta(reply_id: str, reply_to: str, offset: int, text: str, request: str | None = None) -> dict[str, Any]:
    """A part of a reply, at the code point `offset`; `request` is the regeneration that it answers, if any."""
    frame = {"type": "delta", "id": reply_id, "reply_to": reply_to, "offset": offset, "msg": text}
    return frame if request is None else {**frame, "request": request}


def reasoning(reply_id: str, reply_to: str, offset: int, text: str, request: str | None = None) -> dict[str, Any]:
    """A part of what the model thinks before a reply; otherwise like `delta`."""
    return {**delta(reply_id, reply_to, offset, text, request), "type": "reasoning"}


def calls(reply_id: str, reply_to: str, offset: int, text: str, request: str | None = None) -> dict[str, Any]:
    """A part of the function calls of a reply, as protocol/openai/calls.py encodes them; otherwise like `delta`."""
    return {**delta(reply_id, reply_to, offset, text, request), "type": "calls"}


def message(document: Mapping[str, Any]) -> dict[str, Any]:
    """A complete stored message."""
    return {"type": "message", **document}


def error(refusal: ClientError) -> dict[str, Any]:
    """The client's frame was refused."""
    return _error(refusal.code, refusal.message, refusal.message_id, refusal.retry_after)


def failure(request_id: str, text: str, reply_to: str | None = None) -> dict[str, Any]:
    """The reply to a request failed permanently; `text` is shown to the user.

    `reply_to` is the human message of a regeneration. A failure that a retry would have again has a `reason`.
    """
    frame = _error("model_error", text, request_id, None)
    if reason := failures.reason(text):
        frame["reason"] = reason
    return frame if reply_to is None else {**frame, "reply_to": reply_to}


def _error(code: str, text: str, message_id: str | None, retry_after: float | None) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": text, "id": message_id, "retry_after": retry_after}
