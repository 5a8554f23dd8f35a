"""No acknowledged message is lost while processes are killed; `make chaos` does that for longer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.chaos.deployments import NetworkDeployment
from devtools.chaos.experiments import run_experiment
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment

#: Seconds within which a reply that a fault interrupted arrives, at default settings.
RECOVERY = 15.0


@pytest.fixture(scope="module")
def breakable(model: ModelServer) -> Iterator[Deployment]:
    """Two web processes, two workers of their own, at default settings."""
    with Deployment(model.url, webs=2, workers=2) as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("worker-kill", 2),
        ("web-kill", 1),
        ("redis-kill", 1),
    ],
)
def test_nothing_is_lost_doubled_or_out_of_order(
    breakable: Deployment, model: ModelServer, name: str, times: int
) -> None:
    check(breakable, model, name, times)


@pytest.fixture(scope="module")
def remote(model: ModelServer) -> Iterator[NetworkDeployment]:
    with NetworkDeployment(model.url, webs=2, workers=2) as deployment:
        yield deployment


@pytest.mark.parametrize("name", ["pubsub-half-open"])
def test_nothing_is_lost_when_the_network_breaks(remote: NetworkDeployment, model: ModelServer, name: str) -> None:
    check(remote, model, name, 1)


def check(chat: Deployment, model: ModelServer, name: str, times: int) -> None:
    model.control(first=100, interval=50, tokens=20)
    crowd = run_experiment(chat, model, name, times, users=10, reply_length=1.0)
    assert crowd.outcome.problems == []
    assert crowd.outcome.kept, crowd.outcome
    assert crowd.outcome.acknowledged == crowd.outcome.answered > 0
    assert max(crowd.outcome.recoveries, default=0) < RECOVERY
    for web in chat.webs:
        assert not web.traceback()
