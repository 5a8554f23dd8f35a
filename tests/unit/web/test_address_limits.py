"""The limits of one address, without processes."""

from __future__ import annotations

import time
from dataclasses import replace

import limits
import pytest

from chatbot.config import Settings
from chatbot.protocol.client_errors import RateLimited
from chatbot.web.limits import address_limits
from chatbot.web.limits.address_limits import AddressLimits
from chatbot.web.limits.rates import network_of


def create(sockets: int = 2, failures: str = "3/minute", *, enabled: bool = True) -> AddressLimits:
    rates = tuple(limits.parse_many(failures))
    settings = Settings()
    found = replace(settings.limits, max_sockets_per_address=sockets, failed_handshakes=rates, rates_enabled=enabled)
    return AddressLimits(replace(settings, limits=found))


def test_an_address_has_at_most_so_many_sockets_at_a_time() -> None:
    found = create(sockets=2)
    found.open_socket("192.0.2.1")
    found.open_socket("192.0.2.1")
    with pytest.raises(RateLimited):
        found.open_socket("192.0.2.1")
    found.open_socket("192.0.2.2")
    found.close_socket("192.0.2.1")
    found.open_socket(network_of("::ffff:192.0.2.1"))


def test_an_ipv6_network_of_one_customer_is_one_address() -> None:
    found = create(sockets=1)
    found.open_socket(network_of("2001:db8:1:2::1"))
    with pytest.raises(RateLimited):
        found.open_socket(network_of("2001:db8:1:2::2"))
    found.open_socket(network_of("2001:db8:1:3::1"))


def test_zero_is_no_limit() -> None:
    found = create(sockets=0)
    for _ in range(5000):
        found.open_socket("192.0.2.1")


def test_nothing_is_left_of_closed_sockets() -> None:
    found = create()
    found.open_socket("192.0.2.1")
    found.close_socket("192.0.2.1")
    assert not found._sockets


def test_failed_handshakes_beyond_the_rate_are_refused_until_it_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    found = create(failures="3/second")
    for _ in range(3):
        now += 0.001
        found.check_failures("192.0.2.1")
        found.count_failure("192.0.2.1")
    with pytest.raises(RateLimited) as refused:
        found.check_failures("192.0.2.1")
    found.check_failures("192.0.2.2")
    assert 0 < (refused.value.retry_after or 0) <= 0.4
    now += (refused.value.retry_after or 0) + 0.001
    found.check_failures("192.0.2.1")


def test_without_rates_failed_handshakes_are_not_counted() -> None:
    found = create(enabled=False)
    for _ in range(100):
        found.count_failure("192.0.2.1")
    found.check_failures("192.0.2.1")


def test_addresses_whose_rate_has_recovered_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_limits, "_MANY", 100)
    found = create(failures="1000/second")
    for number in range(1000):
        found.count_failure(f"10.0.{number // 250}.{number % 250}")
        time.sleep(0.0001)
    assert len(found._failures) <= 100


def test_pages_sent_to_one_address_at_the_same_time_are_limited() -> None:
    found = create()
    sent = [found.begin_sending("192.0.2.1") for _ in range(32)]
    with pytest.raises(RateLimited) as refused:
        found.begin_sending("192.0.2.1")
    assert refused.value.retry_after == 1
    found.begin_sending("192.0.2.2")
    sent[0]()
    found.begin_sending("192.0.2.1")


def test_pages_sent_at_the_same_time_are_limited_over_all_addresses() -> None:
    found = create()
    sent = [found.begin_sending(f"192.0.2.{number % 64}") for number in range(256)]
    with pytest.raises(RateLimited):
        found.begin_sending("198.51.100.1")
    for end in sent:
        end()
    for _ in range(32):
        found.begin_sending("198.51.100.1")
