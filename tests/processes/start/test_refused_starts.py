"""Ways to start that cannot work: each ends with one line that says what to do, without a traceback."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chatbot.config.reader import variables
from devtools.harness.ports import free_port
from devtools.paths import BIN, ROOT

GUNICORN = (str(BIN / "gunicorn"),)
APP = (*GUNICORN, "wsgi:app")
CELERY = (str(BIN / "celery"), "-A", "celery_worker")
WORKER = (*CELERY, "worker")
FLOWER = (*CELERY, "flower")
PYTHON = (str(BIN / "python"),)
FLASK = str(BIN / "flask")

#: Seconds for one start; a refusal takes about one on an idle machine.
TIMEOUT = 120.0


@dataclass(frozen=True)
class Way:
    """A command with variables, and what its last line must say."""

    says: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path = ROOT


WAYS = {
    "gunicorn --preload": Way("start gunicorn without it", (*GUNICORN, "--preload", "wsgi:app")),
    "gunicorn -k sync": Way("start gunicorn without -k", (*GUNICORN, "-k", "sync", "wsgi:app")),
    "gunicorn -k eventlet": Way("start gunicorn without -k", (*GUNICORN, "-k", "eventlet", "wsgi:app")),
    "gunicorn -w 0": Way("start it without -w", (*GUNICORN, "-w", "0", "wsgi:app")),
    "gunicorn --chdir from elsewhere": Way(
        "did not read gunicorn.conf.py",
        (*GUNICORN, "-b", "127.0.0.1:0", "--chdir", str(ROOT), "wsgi:app"),
        cwd=Path("/"),
    ),
    "gunicorn on a port in use": Way(
        "port .* is in use: stop what listens there, or set PORT", APP, {"PORT": "IN USE"}
    ),
    "gunicorn at the address of another machine": Way("not an address of this machine", APP, {"HOST": "192.0.2.1"}),
    "gunicorn below a path that is not one": Way("SCRIPT_NAME must be a path", APP, {"SCRIPT_NAME": "chat app"}),
    "flask run": Way("start gunicorn wsgi:app", (FLASK, "--app", "chatbot.app", "run"), {"PYTHONPATH": str(ROOT)}),
    "python wsgi.py": Way("run gunicorn wsgi:app", (*PYTHON, "wsgi.py")),
    "python celery_worker.py": Way("run celery -A celery_worker worker", (*PYTHON, "celery_worker.py")),
    "celery beat": Way("there is no Celery beat in this program", (*CELERY, "beat")),
    "worker with a folder for its log": Way("-f / cannot be written: Is a directory", (*WORKER, "-f", "/")),
    "worker -B": Way("without -B", (*WORKER, "-B")),
    "worker --autoscale": Way("set WORKER_CONCURRENCY", (*WORKER, "--autoscale=10,2")),
    "worker -P prefork": Way("leave -P out", (*WORKER, "-P", "prefork")),
    "worker -P gevent": Way("leave -P out", (*WORKER, "-P", "gevent")),
    # Celery would delete the file.
    "worker with a pid file that is another file": Way("name a file of its own", (*WORKER, "--pidfile", "README.md")),
    "worker of the web's module": Way("run celery -A celery_worker", (CELERY[0], "-A", "wsgi", "worker")),
    "worker without a module": Way("run celery -A celery_worker", (CELERY[0], "worker")),
    "worker -Q other": Way("leave it out", (*WORKER, "-Q", "other")),
    "worker -X celery": Way("leave it out", (*WORKER, "-X", "celery")),
    "worker -c 0": Way("write a number from 1 to", (*WORKER, "-c", "0")),
    "worker --time-limit": Way("set MODEL_TIMEOUT", (*WORKER, "--time-limit", "9")),
    "worker --max-tasks-per-child": Way("leave it out", (*WORKER, "--max-tasks-per-child", "9")),
    "worker with a client certificate that is not there": Way(
        "MODEL_CLIENT_CERT is not usable", WORKER, {"MODEL_CLIENT_CERT": "/nowhere.pem"}
    ),
    "worker with a callable that is not there": Way(
        "MODEL_CALLABLE cannot be used: the module nobot is neither in ",
        WORKER,
        {"MODEL_CALLABLE": "nobot:reply", "MODEL_URL": ""},
    ),
    "worker of a callable without its name": Way(
        "MODEL_API is python: name the function in MODEL_CALLABLE", WORKER, {"MODEL_API": "python"}
    ),
    "chatbot worker with an option without effect": Way(
        "leave -P out", (*PYTHON, "-m", "chatbot", "worker", "chatbot.bot:Retry", "-P", "solo")
    ),
    "worker with an unknown option of Redis": Way(
        "REDIS_URL has the option nonsense that this program does not know",
        WORKER,
        {"REDIS_URL": "redis://127.0.0.1:9/0?nonsense=1"},
    ),
    "web with an unknown option of Redis": Way(
        "REDIS_URL has the option nonsense that this program does not know",
        APP,
        {"REDIS_URL": "redis://127.0.0.1:9/0?nonsense=1"},
    ),
    "Flower with an unknown option of Redis": Way(
        "CELERY_BROKER_URL has the option nonsense that this program does not know",
        FLOWER,
        {"CELERY_BROKER_URL": "redis://127.0.0.1:9/0?nonsense=1"},
    ),
    "Flower on a port in use": Way("is in use: .* or set FLOWER_PORT", FLOWER, {"FLOWER_PORT": "IN USE"}),
    "Flower for all without a password": Way(
        "set FLOWER_BASIC_AUTH",
        FLOWER,
        {"FLOWER_ADDRESS": "0.0.0.0", "FLOWER_BASIC_AUTH": "", "FLOWER_UNAUTHENTICATED": "false"},
    ),
    "Flower at any address by its option": Way("set FLOWER_BASIC_AUTH", (*FLOWER, "--address=")),
    "web with a broken .env": Way(
        ".env is not UTF-8", (*GUNICORN, "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:app"), {"PYTHONPATH": str(ROOT)}
    ),
    "authorities that are not there": Way(
        "SSL_CERT_FILE names a file that is not there", APP, {"SSL_CERT_FILE": "/no"}
    ),
}


@pytest.fixture(scope="module")
def ends() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """How each way ended; all run at the same time, two by two."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", free_port())) as taken,
        ThreadPoolExecutor(2) as pool,
    ):
        (Path(folder) / ".env").write_bytes("MODEL_NAME=caf\u00e9".encode("latin-1"))
        port = str(taken.getsockname()[1])

        def run(name: str) -> subprocess.CompletedProcess[str]:
            way = WAYS[name]
            env = {name: value for name, value in os.environ.items() if name not in {v for v, _, _ in variables()}}
            env |= {
                "REDIS_URL": "redis://127.0.0.1:9/0",
                "MODEL_URL": "http://127.0.0.1:9/v1",
                "PORT": str(free_port()),
                **way.env,
            }
            return subprocess.run(
                way.command,
                env={name: port if value == "IN USE" else value for name, value in env.items()},
                cwd=folder if ".env" in name else way.cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )

        yield {name: pool.submit(run, name) for name in WAYS}


@pytest.mark.parametrize("name", WAYS)
def test_a_start_that_cannot_work_ends_with_one_line_that_says_what_to_do(
    ends: dict[str, Future[subprocess.CompletedProcess[str]]], name: str
) -> None:
    ended = ends[name].result(TIMEOUT * len(WAYS))
    assert ended.returncode not in (0, -9, -15)
    assert "Traceback" not in ended.stdout + ended.stderr
    assert len(re.findall(WAYS[name].says, ended.stderr)) == 1, ended.stderr
    assert "beat" not in name or not ended.stdout
