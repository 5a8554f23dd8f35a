"""Ids that are hashes: a session's of its token, a reply's of its message."""

from __future__ import annotations

import hashlib


def session_id(token: str) -> str:
    """The id of a token's session: 32 hexadecimal characters of its SHA-256."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:32]


def reply_id(session: str, message_id: str) -> str:
    """The id of the reply to a message: the same for every worker and attempt."""
    return hashlib.sha256(f"{session}:{message_id}".encode()).hexdigest()[:32]
