"""How many pages of histories a web process sends at the same time."""

from __future__ import annotations

import pytest
import redis

from chatbot.config import load_settings
from chatbot.protocol.client_errors import RateLimited
from chatbot.web.limits.rates import Pace, Paces, RateLimits


@pytest.fixture
def rate_limits(monkeypatch: pytest.MonkeyPatch) -> RateLimits:
    monkeypatch.setenv("RATELIMIT_ENABLED", "true")
    return RateLimits(load_settings(), redis.Redis())


def test_pages_sent_to_one_address_at_the_same_time_are_limited(rate_limits: RateLimits) -> None:
    sent = [rate_limits.begin_sending("192.0.2.1") for _ in range(32)]
    with pytest.raises(RateLimited) as refused:
        rate_limits.begin_sending("192.0.2.1")
    assert refused.value.retry_after == 1
    rate_limits.begin_sending("192.0.2.2")
    sent[0]()
    rate_limits.begin_sending("192.0.2.1")


def test_pages_sent_at_the_same_time_are_limited_over_all_addresses(rate_limits: RateLimits) -> None:
    sent = [rate_limits.begin_sending(f"192.0.2.{number % 64}") for number in range(256)]
    with pytest.raises(RateLimited):
        rate_limits.begin_sending("198.51.100.1")
    for end in sent:
        end()
    for _ in range(32):
        rate_limits.begin_sending("198.51.100.1")


def test_frames_that_come_as_requests_have_the_pace_of_a_socket(rate_limits: RateLimits) -> None:
    waits = [rate_limits.request_wait("a") for _ in range(60)]
    assert not any(waits)
    while not waits[-1]:
        waits.append(rate_limits.request_wait("a"))
    with pytest.raises(RateLimited) as refused:
        _ask_for_ever(rate_limits)
    assert refused.value.retry_after is not None
    assert rate_limits.request_wait("b") == 0


def _ask_for_ever(rate_limits: RateLimits) -> None:
    while True:
        rate_limits.request_wait("a")


def test_paces_of_idle_sessions_are_dropped(rate_limits: RateLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    paces = Paces(lambda: Pace(1000.0, 1))
    monkeypatch.setattr(paces, "_many", 3)
    busy = paces.of("busy")
    busy.delay(1e6)
    for key in ("a", "b", "c"):
        paces.of(key)
    assert paces.of("busy") is busy
    assert len(paces._paces) == 2
