"""Errors that a client is told: each has a code of the wire contract (docs/protocol.md) and a message for people."""

from __future__ import annotations

import math

from chatbot.errors import ChatbotError


class ClientError(ChatbotError):
    """Something that the client is told: a `code` of the wire contract and a sentence for people."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        message_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.message_id = message_id
        self.retry_after = retry_after


class SessionNotFound(ClientError):
    """The token is missing, made up, or its session has ended."""

    def __init__(self) -> None:
        super().__init__("session_not_found", "Session expired or does not exist")


class RateLimited(ClientError):
    """More than a rate allows; the same may be sent again after `retry_after` seconds."""

    def __init__(
        self, wait: float, message_id: str | None = None, message: str = "Slow down: send this again in a moment"
    ) -> None:
        # Rounded up: whoever waits that long is not refused again.
        retry_after = math.ceil(wait * 10) / 10
        super().__init__("rate_limited", message, status=429, message_id=message_id, retry_after=retry_after)
