"""Errors that are sent to clients: each has a code of the wire contract (docs/protocol.md) and a text for users."""

from __future__ import annotations

import math

from chatbot.errors import ChatbotError

UNAVAILABLE = "The chat is not available right now: send this again in a moment"


class ClientError(ChatbotError):
    """A request or frame is refused, with a `code` of the wire contract and a `message` for the user."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        message_id: str | None = None,
        retry_after: float | None = None,
        param: str | None = None,
    ) -> None:
        """`param` names the field of a request below `/v1` that is at fault."""
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.message_id = message_id
        self.retry_after = retry_after
        self.param = param


class SessionNotFound(ClientError):
    """The token is missing or unknown, or its session has expired."""

    def __init__(self) -> None:
        super().__init__("session_not_found", "Session expired or does not exist")


class SessionDamaged(ClientError):
    """What is stored of the session cannot be read; the same request fails again."""

    def __init__(self) -> None:
        super().__init__("session_damaged", "This chat can no longer be read: start a new one")


class RateLimited(ClientError):
    """A rate limit is exceeded; the client may send the same again after `retry_after` seconds."""

    def __init__(
        self, wait: float, message_id: str | None = None, message: str = "Slow down: send this again in a moment"
    ) -> None:
        # Rounded up: a client that waits this long is accepted.
        retry_after = math.ceil(wait * 10) / 10
        super().__init__("rate_limited", message, status=429, message_id=message_id, retry_after=retry_after)
