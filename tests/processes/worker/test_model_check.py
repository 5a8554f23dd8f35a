"""`flask --app wsgi model-check`, as an operator runs it."""

import os
import subprocess

import pytest

from devtools.fake_model import ModelServer
from devtools.paths import BIN, ROOT


def model_check(**environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "flask"), "--app", "wsgi", "model-check"]
    env = {**os.environ, "MODEL_API": "", "HUGGINGFACE_INFERENCE_TOKEN": "", **environ}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/completions"])
def test_a_model_that_answers_is_ok(model: ModelServer, path: str) -> None:
    checked = model_check(MODEL_URL=model.url + path)
    assert checked.returncode == 0, checked.stderr
    assert "verdict:   OK" in checked.stdout
    assert "reachable: yes" in checked.stdout
    assert "You said: Hello!" in checked.stdout
    for line in ("model", "ended by", "streamed", "time", "speed"):
        assert f"\n{line}:" in checked.stdout


def test_a_wrong_models_name_stands_beside_those_that_the_server_lists(model: ModelServer) -> None:
    told = model_check(MODEL_URL=f"{model.url}/v1", MODEL_NAME="gpt-k").stdout
    assert "model:     asked for as gpt-k (MODEL_NAME); the server lists " in told


def test_every_server_is_asked_and_all_must_reply(model: ModelServer) -> None:
    checked = model_check(MODEL_URL=f"{model.url}/v1,http://127.0.0.1:9/v1")
    assert checked.returncode == 1
    assert "verdict:   OK" in checked.stdout
    assert "reachable: no" in checked.stdout
    assert "1 of 2 model servers replied" in checked.stdout


def test_an_addresss_credentials_are_not_shown(model: ModelServer) -> None:
    url = model.url.replace("//", "//ada:pass-word@") + "/v1?key=k-e-y"
    checked = model_check(MODEL_URL=url)
    assert "pass-word" not in checked.stdout + checked.stderr
    assert "k-e-y" not in checked.stdout + checked.stderr


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
