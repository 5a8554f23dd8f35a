"""What can go wrong with a model call. The type tells transient from permanent."""

from __future__ import annotations

from chatbot.errors import ChatbotError
from chatbot.telemetry.counters import ModelErrorKind


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
