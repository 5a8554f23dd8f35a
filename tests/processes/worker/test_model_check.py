"""`flask --app wsgi model-check`, as an operator runs it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from click.testing import Result

from chatbot.app import create_app
from chatbot.config import Settings
from devtools.fake_model import ModelServer
from devtools.harness.ports import free_port
from devtools.paths import BIN, ROOT
from tests.support.models import answer, answering


def model_check(**environ: str) -> Result:
    """The command in this process: it needs no Redis."""
    app = create_app(Settings.from_env({"REDIS_URL": "redis://127.0.0.1:9/0", **environ}))
    return app.test_cli_runner().invoke(args=["model-check"])


def run_model_check(**environ: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "flask"), "--app", "wsgi", "model-check"]
    env = {**os.environ, "MODEL_API": "", "HUGGINGFACE_INFERENCE_TOKEN": "", **environ}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/completions"])
def test_a_model_that_answers_is_ok(model: ModelServer, path: str) -> None:
    checked = model_check(MODEL_URL=model.url + path)
    assert checked.exit_code == 0, checked.stderr
    assert "verdict:   OK" in checked.stdout
    assert "reachable: yes" in checked.stdout
    assert "You said: Hello!" in checked.stdout
    assert "\ncontinues: yes, a reply that was cut off goes on (by " in checked.stdout
    for line in ("model", "ended by", "streamed", "time", "speed"):
        assert f"\n{line}:" in checked.stdout


def test_a_wrong_model_name_is_shown_with_those_that_the_server_lists(model: ModelServer) -> None:
    output = model_check(MODEL_URL=f"{model.url}/v1", MODEL_NAME="gpt-k").stdout
    assert "model:     gpt-k (MODEL_NAME), which the server does not list; it lists " in output


def test_every_server_is_asked_and_all_must_reply(model: ModelServer) -> None:
    checked = model_check(MODEL_URL=f"{model.url}/v1,http://127.0.0.1:9/v1")
    assert checked.exit_code == 1
    assert "verdict:   OK" in checked.stdout
    assert "reachable: no" in checked.stdout
    assert "1 of 2 model servers replied" in checked.stdout


def test_the_credentials_of_an_address_are_not_shown(model: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    url = model.url.replace("//", "//ada:pass-word@") + "/v1?key=k-e-y"
    checked = model_check(MODEL_URL=url)
    assert "pass-word" not in checked.output + caplog.text
    assert "k-e-y" not in checked.output + caplog.text


def test_a_refused_token_is_named_and_not_shown(model: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    model.fault("unauthorized")
    checked = model_check(MODEL_URL=model.url, HUGGINGFACE_INFERENCE_TOKEN="hf_a-secret-token")
    assert checked.exit_code == 1
    assert "NO REPLY: unauthorized" in checked.stdout
    assert "HUGGINGFACE_INFERENCE_TOKEN" in checked.stdout
    assert "hf_a-secret-token" not in checked.output + caplog.text


def test_an_address_without_a_server_is_a_connection_failure(model: ModelServer) -> None:
    checked = model_check(MODEL_URL="http://127.0.0.1:9/")
    assert checked.exit_code == 1
    assert "NO REPLY: connection" in checked.stdout


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_without_tls_is_named_as_such_soon() -> None:
    with silent_server() as address:
        began = time.monotonic()
        checked = model_check(MODEL_URL=f"https://{address}/v1", MODEL_CONNECT_TIMEOUT="0.5")
    assert "reachable: no\n" in checked.stdout
    verdict = "NO REPLY: tls: no TLS handshake within MODEL_CONNECT_TIMEOUT, 0.5 s; does the server use TLS? (asked"
    assert verdict in checked.stdout
    assert time.monotonic() - began < 10


def test_a_silent_server_is_waited_for_as_long_as_is_said_and_set() -> None:
    with silent_server() as address:
        began = time.monotonic()
        checked = model_check(MODEL_URL=f"http://{address}/v1", MODEL_READ_TIMEOUT="1", MODEL_LOADING_TIMEOUT="3")
    assert time.monotonic() - began < 20
    said = checked.stdout.splitlines()
    assert "waiting:   for the first token at most MODEL_LOADING_TIMEOUT, 3 s, " in said[5]
    assert said[6] == "reachable: yes"
    assert said[7].endswith("(the server lists none)")
    assert said[8].startswith("verdict:   NO REPLY: timeout: no token within MODEL_LOADING_TIMEOUT, 3 s (asked ")


def test_a_list_of_models_that_does_not_end_is_not_waited_for() -> None:
    def trickle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                connection.sendall(b" ")
                time.sleep(0.1)

    def serve() -> None:
        first, _ = server.accept()
        with first:
            first.recv(65536)
            first.sendall(answer("401 Unauthorized", "{}"))
        second, _ = server.accept()
        with second:
            trickle(second)

    with socket.create_server(("127.0.0.1", free_port())) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        checked = model_check(MODEL_URL=f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        thread.join(30)
    assert "(the server lists none within 3 s)" in checked.stdout
    assert "NO REPLY: unauthorized" in checked.stdout


def test_the_servers_error_text_is_shown_to_the_operator() -> None:
    refused = answer("400 Bad Request", json.dumps({"error": "Server is pinned to 'gpt-j'"}))
    with answering(refused, answer("404 Not Found", "")) as url:
        output = model_check(MODEL_URL=f"{url}/v1").stdout
    assert "server:    \"Server is pinned to 'gpt-j'\"\n" in output
    assert "NO REPLY: refused: 400: error text of 27 characters" in output


@pytest.mark.parametrize(
    "secret", ["hf_a-secret-token", "ada", "pa&ss", "pa%26ss", "YWRhOnBhJnNz", "KEY=K-E-Y", "pa&amp;ss"]
)
def test_an_error_text_that_repeats_a_credential_is_not_shown(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    refused = answer("400 Bad Request", json.dumps({"error": f"no such user: {secret}"}))
    with answering(refused, answer("404 Not Found", "")) as url:
        # A request has a token or a login, never both.
        token = secret if secret.startswith("hf_") else ""
        address = (url if token else url.replace("//", "//ada:pa%26ss@")) + "/v1?key=k-e-y"
        checked = model_check(MODEL_URL=address, HUGGINGFACE_INFERENCE_TOKEN=token)
    assert "NO REPLY: refused" in checked.stdout
    assert "server:    (not shown" in checked.stdout
    assert "no such user" not in checked.output + caplog.text


def test_urllib3_logs_neither_the_address_nor_what_the_server_sent() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nwhat the server wrote\r\n\r\n", answer("404 Not Found", "")) as url:
        checked = run_model_check(MODEL_URL=f"{url}/v1?key=k-e-y", LOG_LEVEL="DEBUG")
    assert "NO REPLY: bad_answer" in checked.stdout
    assert re.match(r"settings:  MODEL_URL from the environment(, .*)?\naddress: ", checked.stdout)
    assert checked.stderr == ""
    assert checked.returncode == 1
