"""What can go wrong with a model call. The type says whether the error is transient or permanent."""

from __future__ import annotations

from chatbot.errors import ChatbotError
from chatbot.protocol.openai import failures
from chatbot.telemetry.counters import ModelErrorKind

_UNREACHABLE = "The model's server cannot be reached. You can try again in a while."
_MISPLACED = "The model is not where this chat looks for it. Its operator must correct that."
#: The sentence shown to the user, by the kind of the error; the rest have that of their class.
_PUBLIC: dict[ModelErrorKind, str] = {
    "connection": _UNREACHABLE,
    "timeout": "The model's server does not answer. You can try again in a while.",
    "tls": _UNREACHABLE,
    "address": _MISPLACED,
    "not_found": _MISPLACED,
    "redirect": _MISPLACED,
    "no_such_model": "The model's server does not have this chat's model. Its operator must correct that.",
    "unauthorized": "The model's provider does not accept this chat's access key. Its operator must replace it.",
    "credits": "This chat's account at the model's provider is used up. Its operator must top it up.",
    "rate_limited": "Too many messages for the model's provider. You can try again in a while.",
    "busy": "The model's server is busy. You can try again in a while.",
}


class ModelError(ChatbotError):
    """A model call that gave no reply.

    `kind` is a short name for logs and metrics. The exception's text is for the operator's log: it holds neither
    credentials nor anything that users or the server wrote. `public` is the sentence shown to the user.
    """

    public = "The model could not answer this message. You can try again."
    #: What the server wrote. Never logged, as servers quote the request in their errors.
    server_text = ""
    #: All texts of the error document, and the parameters that it names; never logged either.
    server_words = ""
    server_parameters: tuple[str, ...] = ()
    #: Whether the client asked for what cannot be: neither the model nor the settings are to blame.
    clients_fault = False

    def __init__(self, kind: ModelErrorKind, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.public = _PUBLIC.get(kind, self.public)

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class TransientModelError(ModelError):
    """Likely to pass: retry, not before `retry_after` seconds where the server named them."""

    def __init__(self, kind: ModelErrorKind, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(kind, detail)
        self.retry_after = retry_after


class ModelLoading(TransientModelError):
    """The server is still loading the model."""

    public = "The model is still being loaded. You can try again in a while."


class ModelUnavailable(ModelLoading):
    """The server is starting, restarting, away or overloaded: as patient a case as loading."""

    public = "The model is not available right now. You can try again in a while."


class PermanentModelError(ModelError):
    """The same request to the same server would fail again."""


class RequestRefused(PermanentModelError):
    """The request is at fault: every server would refuse it."""

    public = failures.REFUSED


class PromptTooLong(RequestRefused):
    """The prompt does not fit the model's context. The client's fault where it is longer than the settings allow."""

    public = failures.TOO_LONG


class NotSupported(RequestRefused):
    """The model has no images, or no tools."""

    public = failures.NOT_SUPPORTED
    clients_fault = True


class ContentRefused(RequestRefused):
    """A content filter refuses the prompt: the newest message, or one of the messages before it."""

    public = failures.CONTENT
    clients_fault = True


class CallCancelled(ChatbotError):
    """This side ended the model call: `reason` is `stop`, `deadline`, `lease`, `ended` or `shutdown`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
