"""Flower asks for a password where others reach it, and names bad settings."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest
import requests

from devtools.harness.deployment import Deployment, Process, eventually, free_port
from devtools.paths import BIN


def flower(chat: Deployment, folder: Path, **env: str) -> Process:
    """A Flower on a free port, not yet started."""
    port = str(free_port())
    clean = {k: v for k, v in chat.env.items() if not k.startswith("FLOWER_")}
    return Process(
        "flower",
        [str(BIN / "celery"), "-A", "celery_worker", "flower", *env.pop("arguments", "").split()],
        {**clean, "FLOWER_PORT": port, **env},
        folder / "flower.log",
    )


def answer_of(process: Process, path: str = "/", host: str = "127.0.0.1", **headers: str) -> int | None:
    """The status, None while no server answers."""
    try:
        url = f"http://{host}:{process.env['FLOWER_PORT']}{path}"
        return requests.get(url, headers=headers, timeout=5).status_code
    except requests.ConnectionError:
        return None


def own_address() -> str:
    """An address of this machine that others could reach; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(sock.getsockname()[0])


def test_flower_listens_on_loopback_by_default(chat: Deployment, tmp_path: Path) -> None:
    process = flower(chat, tmp_path).start()
    try:
        assert eventually(lambda: answer_of(process), 60) == 200
        assert answer_of(process, host=own_address()) is None
    finally:
        process.kill()


@pytest.mark.parametrize(
    "how",
    [
        {"FLOWER_ADDRESS": "0.0.0.0"},
        {"FLOWER_ADDRESS": "0.0.0.0", "FLOWER_BASIC_AUTH": ""},
        {"FLOWER_ADDRESS": "0.0.0.0", "FLOWER_UNAUTHENTICATED": "false"},
        {"arguments": "--address=0.0.0.0"},
        {"arguments": "--address="},
    ],
)
def test_flower_open_to_others_without_a_password_does_not_start(
    chat: Deployment, tmp_path: Path, how: dict[str, str]
) -> None:
    process = flower(chat, tmp_path, **how).start()
    try:
        eventually(lambda: not process.running, 60, "Flower ends")
        assert "FLOWER_BASIC_AUTH" in process.log
        assert "Traceback" not in process.log
        assert process.stop() == 1
    finally:
        process.kill()


def test_flower_open_to_others_asks_for_its_password(chat: Deployment, tmp_path: Path) -> None:
    process = flower(chat, tmp_path, FLOWER_ADDRESS="0.0.0.0", FLOWER_BASIC_AUTH="ada:secret").start()
    try:
        assert eventually(lambda: answer_of(process), 60) == 401
        login = base64.b64encode(b"ada:secret").decode()
        assert answer_of(process, Authorization=f"Basic {login}") == 200
        # Flower leaves these two open: see docs/operations.md.
        assert answer_of(process, "/metrics") == 200
        assert answer_of(process, "/healthcheck") == 200
    finally:
        process.kill()


def test_flower_may_be_open_if_set_so(chat: Deployment, tmp_path: Path) -> None:
    process = flower(chat, tmp_path, FLOWER_ADDRESS="0.0.0.0", FLOWER_UNAUTHENTICATED="true").start()
    try:
        assert eventually(lambda: answer_of(process), 60) == 200
    finally:
        process.kill()
