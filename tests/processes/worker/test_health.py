"""`python -m chatbot.worker.health` without a worker; test_liveness_canary.py asks it about running ones."""

import os
import subprocess
import sys

from devtools.paths import ROOT


def test_an_invalid_setting_is_named_and_ends_with_status_2() -> None:
    command = [sys.executable, "-m", "chatbot.worker.health"]
    env = {**os.environ, "WORKER_HEALTH_TIMEOUT": "soon"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("WORKER_HEALTH_TIMEOUT ")
    assert done.stderr.count("\n") == 1
