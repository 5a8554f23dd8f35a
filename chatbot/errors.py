"""Every error that the project raises itself, in one tree.

What a client may be told is a `ClientError`: its code and message are part of the wire contract.
What a model did wrong is a `ModelError`: transient or permanent is told by type.
"""

from __future__ import annotations

import math
from typing import Literal


class ChatbotError(Exception):
    """The root of the tree."""


class ConfigurationError(ChatbotError):
    """A setting whose value makes no sense; the message names it and says what would."""


class StoreUnavailable(ChatbotError):
    """Redis could not be reached, or could not do what was asked; nothing can be said about the outcome."""


class LeaseLost(ChatbotError):
    """Another worker speaks for this session now: nothing that this one still has to say counts."""


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


#: Kinds of errors that text-generation servers name; whatever else they may say there is no kind.
ToldKind = Literal["generation", "incomplete_generation", "overloaded", "healthcheck"]
#: What may go wrong with a model call, by the names that logs and metrics have for it.
ModelErrorKind = Literal[
    ToldKind,
    "address",
    "bad_answer",
    "busy",
    "connection",
    "credits",
    "cut_off",
    "internal",
    "loading",
    "no_such_model",
    "not_found",
    "rate_limited",
    "redirect",
    "refused",
    "server_error",
    "timeout",
    "tls",
    "too_long",
    "unauthorized",
]


class ModelError(ChatbotError):
    """A model call that gave no reply.

    `kind` is a short name for logs and metrics; the exception's text is for the operator and holds neither
    credentials nor what people said; `public` is the sentence that the person in the chat reads.
    """

    public = "The model could not answer this message. You can try again."

    def __init__(self, kind: ModelErrorKind, detail: str, *, public: str | None = None) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        if public is not None:
            self.public = public

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class TransientModelError(ModelError):
    """Likely to pass: try again, not before `retry_after` seconds where the server named them."""

    def __init__(
        self, kind: ModelErrorKind, detail: str, *, retry_after: float | None = None, public: str | None = None
    ) -> None:
        super().__init__(kind, detail, public=public)
        self.retry_after = retry_after


class ModelLoading(TransientModelError):
    """The server is still loading the model."""

    public = "The model is still being loaded. You can try again in a while."


class PermanentModelError(ModelError):
    """The same request to the same server would fail again."""


class RequestRefused(PermanentModelError):
    """The request is at fault: no server would take it."""


class PromptTooLong(RequestRefused):
    """More than the model can read at once."""

    public = "This message is too long for the model."


class CallCancelled(ChatbotError):
    """The model call was ended from our side: `reason` is `stop`, `deadline`, `lease` or `shutdown`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
