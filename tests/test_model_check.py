"""`flask --app wsgi model-check`, as an operator runs it."""

import os
import subprocess

import pytest

from tests.deployment import BIN, ROOT
from tests.model_server import ModelServer


def model_check(**environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "flask"), "--app", "wsgi", "model-check"]
    env = {**os.environ, "MODEL_API": "", "HUGGINGFACE_INFERENCE_TOKEN": "", **environ}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/completions"])
def test_a_model_that_answers_is_ok(model: ModelServer, path: str) -> None:
    checked = model_check(MODEL_URL=model.url + path)
    assert checked.returncode == 0, checked.stderr
    assert "verdict:   OK" in checked.stdout
    assert "You said: Hello!" in checked.stdout


def test_a_model_that_refuses_is_told_apart_without_a_secret(model: ModelServer) -> None:
    model.fault("unauthorized")
    checked = model_check(MODEL_URL=model.url, HUGGINGFACE_INFERENCE_TOKEN="hf_a-secret-token")
    assert checked.returncode == 1
    assert "NO REPLY: unauthorized" in checked.stdout
    assert "HUGGINGFACE_INFERENCE_TOKEN" in checked.stdout
    assert "hf_a-secret-token" not in checked.stdout + checked.stderr


def test_an_address_that_nobody_listens_at_is_told(model: ModelServer) -> None:
    checked = model_check(MODEL_URL="http://127.0.0.1:9/")
    assert checked.returncode == 1
    assert "NO REPLY: connection" in checked.stdout
