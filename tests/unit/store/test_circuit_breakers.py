"""A Redis that failed is asked by one caller at a time."""

from __future__ import annotations

import pytest

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import RateLimited
from chatbot.store.circuit_breakers import CircuitBreakers
from chatbot.store.partition_table import open_partitions

ONE, OTHER = open_partitions(["redis://a", "redis://b"], 1).groups


class Step:
    """Fails while `fails`, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = True

    def __call__(self) -> str:
        self.calls += 1
        if self.fails:
            raise StoreUnavailable("gone")
        return "done"


def test_a_node_that_failed_is_not_asked_for_a_while() -> None:
    now = [100.0]
    found, step = CircuitBreakers(lambda: now[0]), Step()
    asked = [found.call(ONE, step, "no", "nothing is counted") for _ in range(3)]
    assert (asked, step.calls) == (["no"] * 3, 1)
    step.fails = False
    assert found.call(OTHER, step, "no", "") == "done"
    now[0] += 1.5
    # The one that asks is alone until it has its answer.
    inner = found.call(ONE, lambda: found.call(ONE, step, "no", "") + "; " + step(), "no", "")
    assert (inner, step.calls) == ("no; done", 3)
    assert found.call(ONE, step, "no", "") == "done"


def test_a_refusal_is_an_answer() -> None:
    now = [100.0]
    found, step = CircuitBreakers(lambda: now[0]), Step()

    def refuse() -> str:
        raise RateLimited(1)

    assert found.call(ONE, step, "no", "") == "no"
    now[0] += 1.5
    for _ in range(2):
        with pytest.raises(RateLimited):
            found.call(ONE, refuse, "no", "")
