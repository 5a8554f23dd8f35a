"""Which exceptions of a bot are retried. The classes of other libraries are recognised by name."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import requests

from chatbot.bot import Retry
from chatbot.worker.bots.errors import failure
from chatbot.worker.models.errors import PermanentModelError, TransientModelError


def raised(name: str, base: type[Exception] = Exception, **attributes: Any) -> Exception:
    """An exception of a class as a library has it."""
    error: Exception = type(name, (base,), {})("text with a secret")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


def http(status: int, **headers: str) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return requests.HTTPError("text", response=response)


@pytest.mark.parametrize(
    "error",
    [
        Retry("not yet"),
        ConnectionResetError(),
        TimeoutError(),
        OSError("network is unreachable"),
        requests.ConnectionError(),
        requests.Timeout(),
        redis.ConnectionError(),
        raised("ReadTimeout", type("TransportError", (Exception,), {})),
        raised("APIConnectionError"),
        raised("ModelRateLimitError", status_code=429),
        raised("RateLimitError", status_code=429, code="rate_limit_exceeded"),
        raised("InternalServerError", status_code=502),
        http(408),
        http(503),
        ExceptionGroup("both", [TimeoutError(), Retry()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failures_that_may_pass_are_transient(error: Exception) -> None:
    found = failure(error, "bot:reply")
    assert isinstance(found, TransientModelError)
    assert found.kind == "callable"
    assert f"bot:reply raised {type(error).__name__}" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text with a secret"),
        KeyError("secret"),
        SystemExit("secret"),
        FileNotFoundError("secret"),
        PermissionError("secret"),
        requests.exceptions.InvalidURL("secret"),
        raised("AuthenticationError", status_code=401),
        raised("RateLimitError", status_code=429, code="insufficient_quota"),
        raised("ModelQuotaExceededError", type("ModelAPIError", (Exception,), {}), status_code=429),
        http(404),
        ExceptionGroup("both", [TimeoutError("secret"), ValueError("secret")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_failures_are_permanent_and_no_text_of_them_reaches_the_user(error: BaseException) -> None:
    found = failure(error, "bot:reply")
    assert isinstance(found, PermanentModelError)
    assert "secret" not in str(found) + found.public


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Retry("later", after=7), 7.0),
        (Retry("later"), None),
        (http(429, Retry_After="3"), 3.0),
        (http(429, retry_after_ms="500"), 0.5),
        (raised("ModelRateLimitError", status_code=429, retry_after=2.5), 2.5),
        (TimeoutError(), None),
    ],
)
def test_a_retry_waits_as_long_as_the_bot_or_its_service_asks(error: Exception, seconds: float | None) -> None:
    found = failure(error, "bot:reply")
    assert isinstance(found, TransientModelError)
    assert found.retry_after == seconds
