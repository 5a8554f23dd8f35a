"""What no honest client sends, in part: `make hostile` sends it all."""

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.hostile import CASES, assault


def test_six_hundred_hostile_requests_and_frames_do_no_harm(model: ModelServer) -> None:
    with Deployment(model.url) as chat:
        found = assault(chat, cases=600, slow=30, seed=20)
        assert found["unharmed"], found
        # They were let in far enough to be hostile.
        assert found["answers"]["101"] > 600 // len(CASES)
        assert found["answers"]["400"] > 600 // len(CASES)
