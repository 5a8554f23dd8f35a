"""Reads the body of a request below `/v1`."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from flask import request

from chatbot.protocol.compact_json import to_json
from chatbot.protocol.openai.create import parse_json
from chatbot.protocol.openai.items import unsupported
from chatbot.web.answers import request_body

#: Bytes of a body, and of a frame of the websocket: conversations come whole, and images as text.
MAX_BODY = 8 * 1024 * 1024


def idempotency(document: dict[str, Any]) -> bytes:
    """A digest of the request in 32 bytes, if it has an `Idempotency-Key`; else b"".

    The same key with another body, or from a client with another API key, makes another request.
    """
    key = request.headers.get("Idempotency-Key", "").strip()
    if not key:
        return b""
    parts = (request.headers.get("Authorization", ""), key, request.path, to_json(document))
    return sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()


def read_json() -> dict[str, Any]:
    """The JSON object in the body of the current request. Raises `ClientError`."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise unsupported("Content-Encoding", "compressed bodies")
    return parse_json(request_body(cache=False))
