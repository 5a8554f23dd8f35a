"""Hostile requests and frames do no harm; `make hostile` sends many more."""

from collections.abc import Iterator

import pytest

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.hostile.assault import assault
from devtools.hostile.cases import CASES
from devtools.hostile.crowding import CROWDING, SETTINGS, Case, crowd

#: Milliseconds that others wait at most; the whole attack without what protects them.
LIMIT = 1000


def test_three_hundred_hostile_requests_and_frames_do_no_harm(model: ModelServer) -> None:
    with Deployment(model.url) as chat:
        found = assault(chat, cases=300, slow=15, seed=20)
        assert found["unharmed"], found
        # Enough of them got past the handshake, and enough were refused.
        assert found["answers"]["101"] > 300 // len(CASES)
        assert found["answers"]["400"] > 300 // len(CASES)


@pytest.fixture(scope="module")
def crowded(model: ModelServer) -> Iterator[Deployment]:
    with Deployment(model.url, workers=0, **SETTINGS) as chat:
        yield chat


@pytest.mark.parametrize("case", CROWDING[::2], ids=lambda case: case.__name__)
def test_one_client_does_not_keep_the_others_waiting(crowded: Deployment, case: Case) -> None:
    slowest: list[int] = []
    # The machine may be busy with other tests, but not every time.
    while len(slowest) < 5 and min(slowest, default=LIMIT) >= LIMIT:
        found = crowd(crowded, case, 2)
        assert found["sent"], found
        assert found["process_lives"], found
        assert found["sockets_lost"] == 0, found
        slowest.append(max(found["acks"]["ms_p50_p99_max"] + found["probes"]["ms_p50_p99_max"]))
    assert min(slowest) < LIMIT, found
