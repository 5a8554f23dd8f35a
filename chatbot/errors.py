"""The root of the project's exceptions, and those that every layer may raise.

`protocol.client_errors.ClientError` is an error shown to a client; `worker.models.errors.ModelError` is one of a model.
"""

from __future__ import annotations


class ChatbotError(Exception):
    """The base class of all exceptions of the project."""


class ConfigurationError(ChatbotError):
    """Invalid settings; each problem names the variable and the values that are valid."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class StoreUnavailable(ChatbotError):
    """Redis was unreachable or refused a command; the outcome of the operation is unknown."""


class DamagedSession(StoreUnavailable):
    """A step failed at what is stored of one session: a key of a wrong type, or JSON that is not a session.

    `wrong_type` is true for the former, which no version of the scripts can read.
    """

    def __init__(self, text: str, *, wrong_type: bool) -> None:
        super().__init__(text)
        self.wrong_type = wrong_type
