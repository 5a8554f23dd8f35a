"""How fast a web process reads the frames of a client."""

from __future__ import annotations

import pytest

from chatbot.config import load_settings
from chatbot.protocol.client_errors import RateLimited
from chatbot.web.limits.frame_rates import FrameRates
from chatbot.web.limits.throttle import Throttle, Throttles


@pytest.fixture
def frame_rates(monkeypatch: pytest.MonkeyPatch) -> FrameRates:
    monkeypatch.setenv("RATELIMIT_ENABLED", "true")
    return FrameRates(load_settings())


def test_frames_that_come_as_requests_have_the_rate_of_a_socket(frame_rates: FrameRates) -> None:
    waits = [frame_rates.request_wait("a") for _ in range(60)]
    assert not any(waits)
    while not waits[-1]:
        waits.append(frame_rates.request_wait("a"))
    with pytest.raises(RateLimited) as refused:
        _ask_for_ever(frame_rates)
    assert refused.value.retry_after is not None
    assert frame_rates.request_wait("b") == 0


def _ask_for_ever(frame_rates: FrameRates) -> None:
    while True:
        frame_rates.request_wait("a")


def test_throttles_of_idle_sessions_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    throttles = Throttles(lambda: Throttle(1000.0, 1))
    monkeypatch.setattr(throttles, "_many", 3)
    busy = throttles.of("busy")
    busy.delay(1e6)
    for key in ("a", "b", "c"):
        throttles.of(key)
    assert throttles.of("busy") is busy
    assert len(throttles._throttles) == 2
