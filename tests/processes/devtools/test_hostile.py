"""Hostile requests and frames do no harm; `make hostile` sends many more."""

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.hostile.assault import assault
from devtools.hostile.cases import CASES


def test_six_hundred_hostile_requests_and_frames_do_no_harm(model: ModelServer) -> None:
    with Deployment(model.url) as chat:
        found = assault(chat, cases=600, slow=30, seed=20)
        assert found["unharmed"], found
        # Enough of them got past the handshake, and enough were refused.
        assert found["answers"]["101"] > 600 // len(CASES)
        assert found["answers"]["400"] > 600 // len(CASES)
