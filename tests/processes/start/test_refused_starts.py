"""Ways to start that cannot work: each ends with one line that says what to do, without a traceback.

One start for each place that refuses. What else a place refuses stands in its unit tests: of `start_checks` of web and
of worker, of the command `chatbot`, and of the settings, where every process is started with a bad one.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devtools.harness.deployment import SETTINGS
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
    "gunicorn -k eventlet": Way("start gunicorn without -k", (*GUNICORN, "-k", "eventlet", "wsgi:app")),
    "gunicorn --chdir from elsewhere": Way(
        "did not read gunicorn.conf.py",
        (*GUNICORN, "-b", "127.0.0.1:0", "--chdir", str(ROOT), "wsgi:app"),
        cwd=Path("/"),
    ),
    "gunicorn on a port in use": Way(
        "port .* is in use: stop what listens there, or set PORT", APP, {"PORT": "IN USE"}
    ),
    "flask run": Way("start gunicorn wsgi:app", (FLASK, "--app", "chatbot.app", "run"), {"PYTHONPATH": str(ROOT)}),
    "python wsgi.py": Way("run gunicorn wsgi:app", (*PYTHON, "wsgi.py")),
    "python celery_worker.py": Way("run celery -A celery_worker worker", (*PYTHON, "celery_worker.py")),
    "celery beat": Way("there is no Celery beat in this program", (*CELERY, "beat")),
    "worker with a folder for its log": Way("-f / cannot be written: Is a directory", (*WORKER, "-f", "/")),
    "worker -B": Way("without -B", (*WORKER, "-B")),
    "worker -P gevent": Way("leave -P out", (*WORKER, "-P", "gevent")),
    "worker of the web's module": Way("run celery -A celery_worker", (CELERY[0], "-A", "wsgi", "worker")),
    "worker without a module": Way("run celery -A celery_worker", (CELERY[0], "worker")),
    "worker with a callable that is not there": Way(
        "MODEL_CALLABLE cannot be used: the module nobot is neither in ",
        WORKER,
        {"MODEL_CALLABLE": "nobot:reply", "MODEL_URL": ""},
    ),
    "Flower on a port in use": Way("is in use: .* or set FLOWER_PORT", FLOWER, {"FLOWER_PORT": "IN USE"}),
    "Flower for all without a password": Way(
        "set FLOWER_BASIC_AUTH",
        FLOWER,
        {"FLOWER_ADDRESS": "0.0.0.0", "FLOWER_BASIC_AUTH": "", "FLOWER_UNAUTHENTICATED": "false"},
    ),
    "Flower at any address by its option": Way("set FLOWER_BASIC_AUTH", (*FLOWER, "--address=")),
}


@pytest.fixture(scope="module")
def ends() -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """How each way ended; all run at the same time, two by two."""
    # Here, as pytest changes the environment between tests, which another thread must not see.
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    with (
        socket.create_server(("127.0.0.1", free_port())) as taken,
        ThreadPoolExecutor(2) as pool,
    ):
        port = str(taken.getsockname()[1])

        def run(name: str) -> subprocess.CompletedProcess[str]:
            way = WAYS[name]
            env = {
                **clean,
                "REDIS_URL": "redis://127.0.0.1:9/0",
                "MODEL_URL": "http://127.0.0.1:9/v1",
                "PORT": str(free_port()),
                **way.env,
            }
            return subprocess.run(
                way.command,
                env={name: port if value == "IN USE" else value for name, value in env.items()},
                cwd=way.cwd,
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
