"""The container files, as far as they can be checked without a container engine; `make lint` checks their syntax."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from chatbot.config import Settings
from chatbot.worker.services import recovery_slots
from devtools.harness.deployment import eventually
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command
from devtools.package import ENTRY_FILES
from devtools.paths import BIN, ROOT

DOCKER = ROOT / "docker"
SERVICES = ("web", "worker", "flower")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    return found


def test_nothing_but_web_is_published(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"web": ["${WEB_ADDRESS:-127.0.0.1}:${WEB_PORT:-5000}:5000"]}
    flower = yaml.safe_load((DOCKER / "compose.flower.yaml").read_text("utf-8"))
    assert flower["services"]["flower"]["ports"][0].startswith("127.0.0.1:")
    assert compose["networks"]["store"]["internal"] is True
    assert compose["services"]["redis"]["networks"] == ["store"]


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text("utf-8")
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|AUTH|TOKEN)\w*)([^}]*)\}", text)
    assert {name for name, _ in secrets} == {"REDIS_PASSWORD", "FLOWER_BASIC_AUTH"}
    assert all(rest.startswith(":?set ") for _, rest in secrets), secrets
    for line in (DOCKER / "env.example").read_text("utf-8").splitlines():
        if re.match(r"\w*(PASSWORD|AUTH|TOKEN)\w*=", line):
            assert line.endswith("="), line


def test_any_number_of_each_service_may_run(compose: dict[str, Any]) -> None:
    assert not [name for name, service in compose["services"].items() if "container_name" in service]
    # Celery derives a worker's name from the host, and each container is a host.
    assert re.search(r"\s(-n|--hostname)\b", compose["services"]["worker"]["command"]) is None


def test_the_commands_exist_and_the_processes_have_no_privileges(compose: dict[str, Any]) -> None:
    for name in SERVICES:
        service = compose["services"][name]
        command = service.get("command", "python -m chatbot web").split()
        assert (BIN / command[0]).exists()
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - of the container
        filled = {**service["environment"], "ALLOWED_HOSTS": "localhost"}
        settings = Settings.from_env({**filled, "MODEL_URL": "http://m/v1", "REDIS_PASSWORD": "p"})
        assert settings.redis.url == "redis://:p@redis:6379/0"


def test_the_image_holds_the_product_alone_and_runs_as_an_ordinary_user() -> None:
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    context = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for source in line.split()[:-1]
    }
    assert copied == {*ENTRY_FILES, "chatbot", "docker/requirements.lock"}
    assert "*" in context
    assert {line.removeprefix("!") for line in context if line.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text


def test_the_image_gets_every_requirement_at_its_version_with_hashes() -> None:
    assert "--require-hashes -r requirements.lock" in (DOCKER / "Dockerfile").read_text("utf-8")
    text = (DOCKER / "requirements.lock").read_text("utf-8")
    assert "://" not in text
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert all("--hash=sha256:" in entry for entry in entries)
    locked = {entry.split()[0] for entry in entries}
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = re.sub(r"\[\w+\]", "", line).lower().replace("_", "-")
            assert pin in locked, f"{line}: run `make lock`"


def test_every_service_of_the_chat_is_bounded_and_restarted(compose: dict[str, Any]) -> None:
    for name in (*SERVICES, "redis"):
        service = compose["services"][name]
        assert service["mem_limit"], name
        assert 0 < int(re.sub(r"\D", "", str(service["pids_limit"]))) <= 1024, name
        assert service["restart"] == "unless-stopped", name
    for name, service in compose["services"].items():
        options = service["logging"]["options"]
        assert (options["max-size"], options["max-file"]) == ("10m", "5"), name
    defaults = Settings()
    threads = defaults.worker.concurrency + recovery_slots(defaults.worker.concurrency)
    assert threads + 100 < 1024


def test_redis_starts_with_its_password_on_no_command_line(compose: dict[str, Any], tmp_path: Path) -> None:
    service, port = compose["services"]["redis"], free_port()
    shell, option, script = service["command"]
    script = script.replace("${REDIS_MAXMEMORY:-1gb}", "1gb").replace("/tmp", str(tmp_path))  # noqa: S108
    script = script.replace("$$", "$")
    assert "${" not in script
    binary, *arguments = redis_command(port, tmp_path)
    module = arguments[arguments.index("--loadmodule") :][:2] if "--loadmodule" in arguments else []
    entrypoint = tmp_path / "docker-entrypoint.sh"
    own = shlex.join(["--port", str(port), "--dir", str(tmp_path), *module])
    entrypoint.write_text(f'#!/bin/sh\nshift\nexec {binary} "$@" {own}\n')
    entrypoint.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDISCLI_AUTH": "a-secret"}
    with subprocess.Popen([shell, option, script], env=env, stdout=subprocess.DEVNULL) as server:
        try:
            client = redis.Redis(port=port, password="a-secret", decode_responses=True)
            eventually(lambda: _answers(client), what="Redis answers")
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=port).ping()
            assert b"a-secret" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
            assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0
            found: Any = client.config_get("maxmemory", "maxmemory-policy", "appendonly", "save")
            assert found == {
                "maxmemory": str(2**30),
                "maxmemory-policy": "noeviction",
                "appendonly": "yes",
                "save": "",
            }
        finally:
            server.terminate()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_the_file_of_secrets_is_not_in_git() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
