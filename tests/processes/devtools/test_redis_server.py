"""The real Redis and the real model that `make run` starts."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from devtools.harness.ports import free_port
from devtools.local import llama_server, probes, redis_server
from devtools.local.redis_server import RedisNotFound, redis_command
from devtools.paths import ROOT

PATIENCE = 60.0  # seconds


def skip_or_fail(reason: str) -> None:
    """Skips on a laptop that lacks a server, and fails in continuous integration."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def end(popen: subprocess.Popen[str]) -> int:
    """Sends SIGTERM, and returns the exit status."""
    popen.send_signal(signal.SIGTERM)
    return popen.wait(PATIENCE)


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    try:
        command = redis_command(port, tmp_path)
    except RedisNotFound as error:
        skip_or_fail(str(error))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as popen:
        try:
            wait_ready(popen, lambda: probes.redis_answers(port))
            yield port
        finally:
            popen.kill()


def wait_ready(popen: subprocess.Popen[Any], probe: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            probe()
            return
        except probes.NotReady as error:
            if popen.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{error} (exit status so far: {popen.returncode})")
            time.sleep(0.02)


def test_the_redis_that_is_found_stores_and_reads_json(redis_port: int) -> None:
    with closing(redis.Redis(port=redis_port, decode_responses=True)) as client:
        document: dict[str, Any] = {"messages": [{"msg": "héllo 🙂"}, {"msg": "two"}]}
        assert client.json().set("k", "$", document)
        assert client.json().arrappend("k", "$.messages", {"msg": "three"}) == [3]
        assert client.json().get("k", "$.messages[-2:]") == [{"msg": "two"}, {"msg": "three"}]


def test_the_redis_that_is_found_has_the_settings_that_a_queue_needs(redis_port: int, tmp_path: Path) -> None:
    with closing(redis.Redis(port=redis_port, decode_responses=True)) as client:
        settings = client.config_get("append*", "maxmemory-policy", "save", "dir", "bind")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""
    assert settings["dir"] == str(tmp_path)
    assert settings["bind"] == "127.0.0.1"


def test_extra_arguments_come_last_so_that_they_win(tmp_path: Path) -> None:
    try:
        command = redis_command(1, tmp_path, ["--appendonly", "no"])
    except RedisNotFound as error:
        skip_or_fail(str(error))
    assert command[-2:] == ["--appendonly", "no"]


class Machine:
    """Pretends what is installed: servers on PATH with a name and a version line, and wheels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.wheel_module = folder / "wheel" / "rejson.so"
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("PATH", str(self.bin))
        self.wheels(valkey=False, module=False)
        monkeypatch.setattr(redis_server, "MODULE", "pretended-rejson.so")  # not in /usr/lib

    def wheels(self, *, valkey: bool, module: bool) -> None:
        found = Path("/wheel/valkey-server") if valkey else None
        self._monkeypatch.setattr(redis_server, "_valkey_from_wheel", lambda: found)
        held = self.wheel_module if module else None
        self._monkeypatch.setattr(redis_server, "_module_from_wheel", lambda: held)

    def server(self, name: str, version_line: str) -> Path:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\necho '{version_line}'\n")
        file.chmod(0o755)
        return file


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def loaded(command: list[str]) -> str | None:
    return command[command.index("--loadmodule") + 1] if "--loadmodule" in command else None


def test_the_wheels_come_before_a_server_on_path(machine: Machine, tmp_path: Path) -> None:
    machine.wheels(valkey=True, module=True)
    machine.server("redis-server", "Redis server v=8.2.3 sha=0")
    command = redis_command(1, tmp_path)
    assert (command[0], loaded(command)) == ("/wheel/valkey-server", str(machine.wheel_module))


def test_redis_8_on_path_gets_the_json_module_that_came_with_it(machine: Machine, tmp_path: Path) -> None:
    server = machine.server("redis-server", "Redis server v=8.2.3 sha=0")
    assert redis_command(1, tmp_path)[0] == str(server)
    assert loaded(redis_command(1, tmp_path)) is None
    module = tmp_path / "lib" / "redis" / "modules" / "pretended-rejson.so"
    module.parent.mkdir(parents=True)
    module.touch(0o755)
    assert loaded(redis_command(1, tmp_path)) == str(module)


def test_an_older_redis_on_path_gets_the_module_of_the_wheel(machine: Machine, tmp_path: Path) -> None:
    machine.wheels(valkey=False, module=True)
    server = machine.server("redis-server", "Redis server v=7.0.15 sha=0")
    command = redis_command(1, tmp_path)
    assert (command[0], loaded(command)) == (str(server), str(machine.wheel_module))


def test_a_redis_too_old_for_the_module_is_not_used(machine: Machine, tmp_path: Path) -> None:
    machine.wheels(valkey=False, module=True)
    machine.server("redis-server", "Redis server v=6.0.16 sha=0")
    valkey = machine.server("valkey-server", "Valkey server v=8.1.1 sha=0")
    assert redis_command(1, tmp_path)[0] == str(valkey)


def test_a_valkey_named_redis_server_does_not_count_as_redis_8(machine: Machine, tmp_path: Path) -> None:
    machine.server("redis-server", "Valkey server v=9.1.2 sha=0")
    with pytest.raises(RedisNotFound):
        redis_command(1, tmp_path)


def test_without_any_redis_the_error_says_how_to_start_one(machine: Machine, tmp_path: Path) -> None:
    machine.wheels(valkey=True, module=False)  # as on Arm, for which the wheel has no module
    with pytest.raises(RedisNotFound) as caught:
        redis_command(1, tmp_path)
    assert "docker run -d -p 6379:6379 redis:8 redis-server --appendonly yes" in str(caught.value)
    assert "REDIS_URL" in str(caught.value)


@pytest.fixture
def model() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    try:
        llama_server.find_model()
    except llama_server.ModelNotFound as error:
        skip_or_fail(str(error))
    port = free_port()
    with start_model(port) as popen:
        try:
            wait_ready(popen, lambda: probes.http_answers(port, "/health"))
            yield port, popen
        finally:
            popen.kill()


def start_model(port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "devtools.local.llama_server", "--port", str(port)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def ask(port: int, **more: object) -> Iterator[http.client.HTTPResponse]:
    body = {"messages": [{"role": "user", "content": "Say hello."}], **more}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        yield connection.getresponse()


def test_the_model_answers_whole_and_streamed(model: tuple[int, subprocess.Popen[str]]) -> None:
    port, popen = model
    with ask(port, max_tokens=4) as response:
        answer = json.load(response)
    assert answer["model"] == "SmolLM2-135M-Instruct"
    assert answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")

    with ask(port, max_tokens=4, stream=True) as response:
        events = [line[6:] for line in response.read().decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"].get("content") for event in events[:-1]]
    assert "".join(filter(None, deltas))

    assert end(popen) == 0


def test_the_model_ends_at_once_and_without_errors_during_a_reply(
    model: tuple[int, subprocess.Popen[str]],
) -> None:
    port, popen = model
    with ask(port, max_tokens=1500, stream=True) as response:
        assert response.readline().startswith(b"data: ")
        began = time.monotonic()
        assert end(popen) == 0
        # The rest of the reply would take longer.
        assert time.monotonic() - began < 10
    assert popen.stderr is not None
    assert "Traceback" not in popen.stderr.read()


def test_the_model_reports_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with start_model(port) as popen:
            _, said = popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 1
    assert said == f"Port {port} is in use: give another one with --port.\n"
