"""No acknowledged message is lost while Redis fails over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.chaos.experiments import run_experiment
from devtools.fake_model import ModelServer
from devtools.harness.sentinel_deployment import SentinelDeployment

#: Seconds within which all users are served again; Sentinel takes one and a half of them, with the tests' settings.
SERVED_AGAIN = 30.0


@pytest.fixture(scope="module")
def breakable(model: ModelServer) -> Iterator[SentinelDeployment]:
    with SentinelDeployment(model.url, webs=2, workers=2) as deployment:
        yield deployment


# `make chaos` also freezes the master, and makes a planned failover.
@pytest.mark.parametrize("name", ["master-kill"])
def test_no_acknowledged_message_is_lost_and_all_are_served_again(
    breakable: SentinelDeployment, model: ModelServer, name: str
) -> None:
    model.control(first=100, interval=50, tokens=20)
    crowd = run_experiment(breakable, model, name, 1, people=20)
    assert crowd.outcome.problems == []
    assert crowd.outcome.kept, crowd.outcome
    assert crowd.outcome.acknowledged == crowd.outcome.answered > 0
    assert crowd.outcome.longest_wait < SERVED_AGAIN
    assert all(process.running for process in (*breakable.webs, *breakable.workers))
    for web in breakable.webs:
        assert "Traceback" not in web.log, web.log[-3000:]
