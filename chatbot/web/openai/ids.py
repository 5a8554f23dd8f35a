"""Ids of responses: a session's token and the id of one of its requests. The id is all that a client needs.

The ids of a response's items hold the same, so that a client can refer to one (protocol/openai/response.py).
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import NamedTuple

from chatbot.sessions.ids import session_id

#: Characters of a token: 32 bytes as URL-safe Base64.
_TOKEN = 43
#: Bytes of a request's id.
_REQUEST_BYTES = 12
_ITEM_ID = re.compile(rf"(msg|rs|fc)_([A-Za-z0-9_-]{{{_TOKEN}}})([A-Za-z0-9_-]{{16}})(?:_([0-9]{{1,4}}))?\Z")
_ID = re.compile(rf"(?:resp_|chatcmpl-)([A-Za-z0-9_-]{{{_TOKEN}}})([A-Za-z0-9_-]{{16}})\Z")


class ResponseId(NamedTuple):
    """Where a response is. The token opens its session: like one, the id must never appear whole in a log."""

    token: str
    request: str

    @property
    def session(self) -> str:
        return session_id(self.token)

    def __str__(self) -> str:
        return f"resp_{self.token}{self.request}"


class ItemId(NamedTuple):
    """Which item of a response: what the model thought (`rs`), its message (`msg`), or a function call (`fc`)."""

    kind: str
    response: ResponseId
    #: The number of a call.
    number: int


def new_request_id() -> str:
    """A new id of a request, which cannot be guessed."""
    return secrets.token_urlsafe(_REQUEST_BYTES)


def repeatable_id(digest: bytes) -> ResponseId:
    """The id that a digest of 32 bytes stands for. It cannot be guessed without what was digested."""
    request = sha256(b"request" + digest).digest()[:_REQUEST_BYTES]
    return ResponseId(_text(digest), _text(request))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def parse_response_id(text: str) -> ResponseId | None:
    """The parts of an id; None for a text that is not an id of this server."""
    found = _ID.match(text)
    return ResponseId(found[1], found[2]) if found else None


def parse_item_id(text: str) -> ItemId | None:
    """The parts of an item's id; None for a text that is not an id of this server."""
    found = _ITEM_ID.match(text)
    return ItemId(found[1], ResponseId(found[2], found[3]), int(found[4] or 0)) if found else None
