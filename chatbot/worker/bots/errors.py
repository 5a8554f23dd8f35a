"""Which exceptions of a callable are transient: those of libraries whose service does not answer now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatbot.bot import Retry
from chatbot.worker.models.errors import ModelError, PermanentModelError, TransientModelError
from chatbot.worker.models.server_errors.retry_after import wait_in_headers

#: `OSError`s that are not of the network: they would come again.
_PERMANENT = (
    *(FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
    *(BlockingIOError, ChildProcessError, ProcessLookupError),
    # `requests` raises these for a URL that is wrong; they are `OSError`s as well.
    ValueError,
)
#: Classes, or bases of them, by name: no library is imported for this.
_TRANSIENT_NAMES = frozenset(
    (
        *("APIConnectionError", "OverloadedError"),  # openai, anthropic
        "ClientConnectionError",  # aiohttp
        *("ConnectionError", "TimeoutError"),  # redis
        "TransportError",  # httpx
        *("ModelConnectionError", "ModelRateLimitError", "ModelServerError", "ModelUnavailableError"),  # Pydantic AI
    )
)
_PERMANENT_NAMES = frozenset(("ModelQuotaExceededError",))
#: What openai calls credits that are used up, under 429.
_USED_UP = "insufficient_quota"
#: Statuses below 500 with which an HTTP service says that it may answer later.
_TRANSIENT_STATUSES = (408, 425, 429)


def failure(error: BaseException, name: str) -> ModelError:
    """The failure that an exception of the callable `name` stands for, transient or permanent by type."""
    detail = f"{name} raised {type(error).__name__}"
    if isinstance(error, Retry):
        return TransientModelError("callable", f"{detail}: {error}" if str(error) else detail, retry_after=error.after)
    if is_transient(error):
        return TransientModelError("callable", detail, retry_after=_wait(error))
    return PermanentModelError("callable", detail)


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed. Of a group, all exceptions must be transient."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_transient, error.exceptions))
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & _PERMANENT_NAMES or getattr(error, "code", None) == _USED_UP:
        return False
    if isinstance(error, Retry) or names & _TRANSIENT_NAMES:
        return True
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _TRANSIENT_STATUSES
    return isinstance(error, OSError) and not isinstance(error, _PERMANENT)


def _status(error: BaseException) -> int | None:
    """The HTTP status in an exception of openai, Pydantic AI, httpx, `requests` or aiohttp."""
    holders = (error, getattr(error, "response", None))
    statuses = (getattr(holder, name, None) for holder in holders for name in ("status_code", "status"))
    return next((s for s in statuses if isinstance(s, int) and s >= 400), None)


def _wait(error: BaseException) -> float | None:
    """Seconds that the service behind the exception asks to wait."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or getattr(error, "headers", None)
    if isinstance(headers, Mapping) and (wait := wait_in_headers(dict(headers.items()))) is not None:
        return wait
    # Pydantic AI.
    wait = getattr(error, "retry_after", None)
    return float(wait) if isinstance(wait, (int, float)) and wait >= 0 else None
