"""Ids that follow from others: a session's from its token, a reply's from its message."""

from __future__ import annotations

import hashlib


def session_id(token: str) -> str:
    """The id of a token's session: 32 hexadecimal characters of its SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:32]


def reply_id(session: str, message_id: str) -> str:
    """The id of the reply to a message: the same whoever generates it, and however often."""
    return hashlib.sha256(f"{session}:{message_id}".encode()).hexdigest()[:32]
