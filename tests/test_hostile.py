"""What no honest client sends, in part: `make hostile` sends it all."""

from tests.deployment import Deployment
from tests.hostile import CASES, assault
from tests.model_server import ModelServer


def test_fifteen_hundred_hostile_requests_and_frames_do_no_harm(model: ModelServer) -> None:
    with Deployment(model.url) as chat:
        found = assault(chat, cases=1500, slow=45, seed=20)
        assert found["unharmed"], found
        # They were let in far enough to be hostile.
        assert found["answers"]["101"] > 1500 // len(CASES)
        assert found["answers"]["400"] > 1500 // len(CASES)
