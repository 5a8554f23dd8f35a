"""The whole chat as real processes on free ports: Redis, web, workers. For tests, tools and benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
import requests

from chatbot.config.reader import ALIASES, variables
from chatbot.store.access import LEAST_ACL
from chatbot.store.client import connect
from chatbot.store.partitions import Partitions, partitions_of
from devtools.harness.ports import free_port
from devtools.local.redis_server import redis_command
from devtools.paths import BIN, PARENT_WATCH, ROOT

#: Seconds for a process to start on a busy machine.
START_TIMEOUT = 120.0
#: Seconds for a process to end after SIGTERM.
STOP_TIMEOUT = 30.0

#: Seconds for a condition that must come true: generous, as the machine may be busy.
PATIENCE = 30.0

#: Characters of a log that a failing test shows of a traceback.
_TRACEBACK = 4000

#: Every variable that the chat reads.
SETTINGS = frozenset({*(name for name, _, _ in variables()), *ALIASES.values()})
#: Read by gunicorn and Flower themselves, which take no empty value.
_NO_EMPTY_VALUE = frozenset({"WEB_CONCURRENCY", *(name for name in SETTINGS if name.startswith("FLOWER_"))})

#: The user of the docs' "A user with few rights", as arguments of redis-server.
USER, USER_PASSWORD = "chat", "few-rights"
USER_ARGUMENTS = ("--user", USER, "on", f">{USER_PASSWORD}", *LEAST_ACL.split())


def eventually(true: Callable[[], Any], timeout: float = PATIENCE, what: str = "") -> Any:
    """The first true value of `true()`, which is called repeatedly. Raises `AssertionError` after `timeout` seconds.

    An element that is still missing (`LookupError`, as of `frames[-1]` before the first frame) counts as not yet true.
    """
    began = time.monotonic()
    while True:
        missing: LookupError | None = None
        try:
            if value := true():
                return value
        except LookupError as error:
            missing = error
        waited = time.monotonic() - began
        if waited > timeout:
            raise AssertionError(f"not so within {timeout} s: {what or true}") from missing
        # Asking without a break would take the processor from what is waited for.
        time.sleep(min(max(waited / 20, 0.01), 0.05))


class Process:
    """One process with its log in a file. It ends when its parent does, at the latest."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path, cwd: Path = ROOT) -> None:
        self.name = name
        self.cwd = cwd
        self.command = command
        self.env = env
        self.log_path = log
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PARENT_WATCH), str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env=self.env,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """The lines of the log, without one that is being written."""
        return self.log.rpartition("\n")[0].splitlines()

    def traceback(self, since: int = 0) -> str:
        """The log from its first traceback on, cut off; '' without one. `since` is how many characters to leave out."""
        _, found, rest = self.log[since:].partition("Traceback")
        return (found + rest)[:_TRACEBACK]

    def signal(self, number: int) -> None:
        """Sends a signal to the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL to the process and its children, and waits for the end."""
        if self._popen is not None:
            self.signal(signal.SIGKILL)
            self._popen.wait()

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """Sends SIGTERM to the process alone, as an operator would; returns the exit status."""
        if self._popen is None:
            return 0
        if self.running:
            self._popen.terminate()
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout} s of SIGTERM") from None

    def restart(self) -> Self:
        self.kill()
        return self.start()


class CannotRun(Exception):
    """This machine lacks what a deployment needs. The text says what."""


class Deployment:
    """Redis, `webs` web processes, `workers` workers, which run within the `with`."""

    def __init__(
        self,
        model_url: str,
        *,
        webs: int = 1,
        workers: int = 1,
        redis_args: tuple[str, ...] = (),
        worker_args: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        """`settings` are environment variables in lower case: `session_ttl=2`."""
        self._worker_args = worker_args
        self._folder = tempfile.TemporaryDirectory(prefix="chatbot-test-")
        self.folder = Path(self._folder.name)
        self.redis_port = free_port()
        self.redis_url = f"redis://127.0.0.1:{self.redis_port}/0"
        clean = {k: v for k, v in os.environ.items() if k not in SETTINGS}
        self.env = {
            **clean,
            # The user with few rights, unless a login is given. Tests and tools are the default user, who may do all.
            "REDIS_URL": self.redis_url if "redis_password" in settings else self._user_url(),
            "MODEL_URL": model_url,
            "PYTHONUNBUFFERED": "1",
            # An empty value counts as unset, and a developer's .env does not override it.
            **dict.fromkeys(SETTINGS - _NO_EMPTY_VALUE - {"REDIS_URL", "MODEL_URL"}, ""),
            # All clients share one address here. Tests of the rates and of the limit turn them on.
            "RATELIMIT_ENABLED": "false",
            "MAX_SOCKETS_PER_ADDRESS": "0",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        data = self.folder / "redis"
        data.mkdir()
        self.redis = self._process("redis", redis_command(self.redis_port, data, (*USER_ARGUMENTS, *redis_args)))
        self.webs = [self.web(i) for i in range(webs)]
        self.workers = [self.worker(i) for i in range(workers)]
        self._client: redis.Redis | None = None

    def _user_url(self) -> str:
        return f"redis://{USER}:{USER_PASSWORD}@127.0.0.1:{self.redis_port}/0"

    def web(self, number: int, **env: str) -> Process:
        """A web process that is not started yet."""
        port = str(free_port())
        return self._process(f"web{number}", [str(BIN / "gunicorn"), "wsgi:app"], PORT=port, **env)

    def worker(self, number: int, **env: str) -> Process:
        """A worker that is not started yet."""
        command = [str(BIN / "celery"), "-A", "celery_worker", "worker", "-n", f"worker{number}@%h"]
        return self._process(f"worker{number}", [*command, *self._worker_args], **env)

    def url(self, web: int = 0) -> str:
        return f"http://127.0.0.1:{self.webs[web].env['PORT']}"

    @property
    def client(self) -> redis.Redis:
        if self._client is None:
            self._client = connect(self.redis_url, 10)
        return self._client

    @property
    def partitions(self) -> Partitions:
        """Which Redis has which session."""
        return partitions_of(self.client)

    @property
    def redis_servers(self) -> dict[int, Process]:
        """All Redis that hold sessions, by port."""
        return {self.redis_port: self.redis}

    @property
    def processes(self) -> list[Process]:
        return [*self.webs, *self.workers, self.redis]

    def start(self) -> Self:
        self.start_redis()
        for process in (*self.webs, *self.workers):
            process.start()
        self.wait_until_ready()
        return self

    def start_redis(self) -> None:
        self.redis.start()
        self.wait_for_redis()

    def wait_for_redis(self) -> None:
        def answers() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(self.client.ping())
            return False

        eventually(answers, START_TIMEOUT, "Redis answers")

    def wait_until_ready(self) -> None:
        """Waits until every web process is ready and every worker has given a sign of life."""
        for number in range(len(self.webs)):
            eventually(partial(self._ready_or_dead, number), START_TIMEOUT, f"web{number} is ready")
        eventually(lambda: self.live_workers() >= len(self.workers), START_TIMEOUT, "the workers are alive")

    def ready(self, web: int = 0) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url(web) + "/readyz", timeout=5).status_code == 200
        return False

    def _ready_or_dead(self, web: int) -> bool:
        if not self.webs[web].running:
            raise RuntimeError(f"{self.webs[web].name} ended: {self.webs[web].log[-2000:]}")
        return self.ready(web)

    def live_workers(self) -> int:
        with contextlib.suppress(requests.RequestException, ValueError):
            return int(requests.get(self.url() + "/readyz", timeout=5).json().get("workers") or 0)
        return 0

    def wait_until_worker(self, number: int) -> None:
        """Waits until a worker that was started again logs that it is ready."""
        worker = self.workers[number]
        before = worker.log.count(" ready.")
        eventually(lambda: worker.log.count(" ready.") > before, START_TIMEOUT, f"{worker.name} is ready")

    def stop(self) -> None:
        if self._client is not None:
            self._client.connection_pool.disconnect()
        for process in self.processes:
            process.kill()
        self._folder.cleanup()

    def logs(self) -> str:
        """The end of every log, for a failing test."""
        return "\n".join(f"--- {p.name}\n{p.log[-4000:]}" for p in self.processes if p.log_path.exists())

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            print(self.logs(), file=sys.stderr)
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.logs(), file=sys.stderr)
        self.stop()

    def _process(self, name: str, command: list[str], **env: str) -> Process:
        return Process(name, command, {**self.env, **env}, self.folder / f"{name}.log")


@contextlib.contextmanager
def running_redis(*arguments: str) -> Iterator[str]:
    """The URL of a real Redis with RedisJSON on a free port."""
    with tempfile.TemporaryDirectory(prefix="chatbot-redis-") as folder:
        port = free_port()
        command = redis_command(port, Path(folder), arguments)
        process = Process("redis", command, dict(os.environ), Path(folder) / "log").start()
        url = f"redis://127.0.0.1:{port}/0"

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError), redis.Redis.from_url(url) as client:
                return bool(client.ping())
            return False

        try:
            eventually(answers, START_TIMEOUT, "Redis answers")
            yield url
        finally:
            process.kill()
