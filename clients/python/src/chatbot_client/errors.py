"""What can go wrong for good. Broken connections are not among it: the client connects again."""

from __future__ import annotations


class ChatError(Exception):
    """The base class of all errors of this package."""


class Refused(ChatError):
    """The server refused a request or a message; nothing was stored. `code` is one of docs/protocol.md.

    With `retry_after`, in seconds, the same may be tried again after that time.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code}: {super().__str__()}"


class ReplyFailed(ChatError):
    """The model gave no reply; the text is for the user. `Chat.retry` asks again."""


class SessionExpired(ChatError):
    """The session has ended, or its token was never valid: start a new one."""
