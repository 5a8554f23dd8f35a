"""When a failed model call is retried."""

import pytest

from chatbot.sessions.leases import Assignment
from chatbot.worker.models.errors import (
    ModelError,
    ModelLoading,
    ModelUnavailable,
    PermanentModelError,
    TransientModelError,
)
from chatbot.worker.retries import retry_delay


def delay(error: ModelError, attempts: int = 0, loading_for: float = 0.0) -> float | None:
    work = Assignment("s", "1", "m", attempts, loading_for, stopped=False, messages=())
    return retry_delay(work, error, max_attempts=10, loading_timeout=60.0)


@pytest.mark.parametrize(("attempts", "backoff"), [(0, 1), (1, 2), (4, 16), (5, 30), (8, 30)])
def test_the_backoff_doubles_up_to_half_a_minute_with_jitter(attempts: int, backoff: float) -> None:
    delays = {delay(TransientModelError("busy", ""), attempts) for _ in range(50)}
    assert len(delays) > 1
    assert all(found is not None and 0.8 * backoff <= found <= 1.2 * backoff for found in delays)


def test_the_last_attempt_and_a_permanent_failure_are_not_retried() -> None:
    assert delay(TransientModelError("busy", ""), attempts=9) is None
    assert delay(PermanentModelError("credits", "")) is None


def test_a_retry_waits_as_long_as_the_server_asks_for_but_not_longer_than_the_loading_timeout() -> None:
    assert delay(TransientModelError("busy", "", retry_after=45.0)) == 45.0
    assert delay(TransientModelError("busy", "", retry_after=61.0)) is None


def test_a_loading_model_is_retried_until_the_loading_timeout_whatever_the_attempts() -> None:
    for asked, expected in ((None, 5.0), (0.0, 0.2), (7.0, 7.0), (500.0, 30.0)):
        assert delay(ModelLoading("loading", "", retry_after=asked), attempts=99) == expected
    assert delay(ModelLoading("loading", ""), loading_for=60.0) is None


@pytest.mark.parametrize(("down_for", "backoff"), [(0, 1), (4, 4), (50, 10)])
def test_an_unavailable_server_is_asked_again_until_the_loading_timeout(down_for: float, backoff: float) -> None:
    wait = delay(ModelUnavailable("server_error", ""), attempts=99, loading_for=down_for)
    assert wait is not None
    assert 0.8 * backoff <= wait <= 1.2 * backoff
    assert delay(ModelUnavailable("server_error", ""), loading_for=60.0) is None


def test_an_unavailable_server_is_not_asked_before_the_time_that_it_names() -> None:
    assert delay(ModelUnavailable("server_error", "", retry_after=45.0)) == 45.0
    assert delay(ModelUnavailable("server_error", "", retry_after=61.0)) is None
