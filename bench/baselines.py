"""What the chat is compared with: bare Celery, whose task only publishes, and bare flask-sock.

`celery -A bench.baselines worker` serves the task; `python -m bench.baselines` sends tasks, as lines on its standard
input order: `flood N`, `trips N`. `gunicorn bench.baselines:flask_app` echoes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import redis
from celery import Celery
from flask import Flask
from flask_sock import Sock

from bench.line_process import LineProcess
from bench.meter import cpu_seconds
from devtools.harness.deployment import Process, eventually
from devtools.harness.ports import free_port
from devtools.paths import BIN

DONE = "bench:done"
#: Seconds for a worker or a web process to start.
_START = 60.0

_URL = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
celery_app = Celery("bare", broker=_URL)
_client = redis.Redis.from_url(_URL, protocol=2)


@celery_app.task(name="bench.noop", ignore_result=True)
def noop(number: int) -> None:
    """Publishes that it ran."""
    _client.publish(DONE, number)


flask_app = Flask("bench.baselines")
_sock = Sock(flask_app)


@_sock.route("/echo")
def echo(ws: Any) -> None:
    """Sends every frame back."""
    while True:
        ws.send(ws.receive())


class BareCelery:
    """A bare worker and a process that sends it tasks, within the `with`."""

    def __init__(self, redis_url: str, folder: Path, name: str, *worker_args: str) -> None:
        env = {**os.environ, "BENCH_REDIS_URL": redis_url}
        # A queue of its own: several of these share a Redis.
        self._queue = f"bare-{name}"
        command = [str(BIN / "celery"), "-A", "bench.baselines", "worker", "-Q", self._queue, "-n", f"{name}@%h"]
        self.worker = Process(f"celery-{name}", [*command, *worker_args], env, folder / f"celery-{name}.log")
        self._env = {**env, "BENCH_QUEUE": self._queue}

    def __enter__(self) -> Self:
        self.worker.start()
        self._publisher = LineProcess("bench.baselines", self._env)
        # The first round trips pay for connections and imports, and show that the worker runs.
        eventually(lambda: self.worker.running and self.trips(20), _START, "bare Celery works")
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.kill()
        self.worker.kill()

    def trips(self, count: int) -> dict[str, Any]:
        """One task after the other: the `times` from sending to the published result, in seconds."""
        return self._order("trips", count)

    def flood(self, count: int) -> dict[str, Any]:
        """Sends `count` tasks as fast as possible. Returns `seconds` until the last result, and the CPU seconds of the
        `publisher`, which does nothing else meanwhile, and of the `worker`.
        """
        before = cpu_seconds([self.worker.pid])
        answer = self._order("flood", count)
        return {**answer, "worker": cpu_seconds([self.worker.pid]) - before}

    def _order(self, what: str, count: int) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._publisher.ask(f"{what} {count}"))
        except RuntimeError as error:
            raise RuntimeError(f"{error}; the worker's log: {self.worker.log[-2000:]}") from None
        return answer


class EchoServer:
    """Bare flask-sock in gunicorn with gevent, as the chat is served."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        command = [str(BIN / "gunicorn"), "-c", "/dev/null", "-k", "gevent", "-b", f"127.0.0.1:{self._port}"]
        command += ["--worker-connections", "20000", "bench.baselines:flask_app"]
        self.process = Process("echo", command, dict(os.environ), folder / "echo.log")
        self.url = f"ws://127.0.0.1:{self._port}/echo"

    def __enter__(self) -> Self:
        self.process.start()
        eventually(lambda: "Booting worker" in self.process.log, _START, "flask-sock is served")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()


def _publish() -> None:
    queue = os.environ["BENCH_QUEUE"]
    pubsub = redis.Redis.from_url(_URL, protocol=2).pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(DONE)
    pubsub.get_message(timeout=5.0)
    for line in sys.stdin:
        what, count = line.split()[0], int(line.split()[1])
        answer = _trips(count, queue, pubsub) if what == "trips" else _flood(count, queue)
        print(json.dumps(answer), flush=True)


def _trips(count: int, queue: str, pubsub: Any) -> dict[str, Any]:
    times = []
    for number in range(count):
        began = time.monotonic()
        noop.apply_async((number,), queue=queue)
        while True:
            message = pubsub.get_message(timeout=30.0)
            if message is None:
                raise TimeoutError("a task has no result")
            if message["type"] == "message" and int(message["data"]) == number:
                break
        times.append(time.monotonic() - began)
    return {"times": times}


def _flood(count: int, queue: str) -> dict[str, Any]:
    """Results are counted by another process, so that counting costs the publisher nothing."""
    counter = subprocess.Popen(
        [sys.executable, "-c", _COUNT, _URL, DONE, str(count)], stdout=subprocess.PIPE, text=True
    )
    assert counter.stdout is not None
    counter.stdout.readline()
    began, cpu = time.monotonic(), time.process_time()
    for number in range(count):
        noop.apply_async((number,), queue=queue)
    published = time.process_time() - cpu
    counter.stdout.readline()
    counter.communicate()
    return {"seconds": time.monotonic() - began, "publisher": published, "tasks": count}


_COUNT = """
import redis, sys
url, channel, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
pubsub = redis.Redis.from_url(url, protocol=2).pubsub(ignore_subscribe_messages=True)
pubsub.subscribe(channel)
pubsub.get_message(timeout=5.0)
print("listening", flush=True)
while count:
    message = pubsub.get_message(timeout=30.0)
    if message is None:
        break
    count -= message["type"] == "message"
print("done", flush=True)
"""

if __name__ == "__main__":
    _publish()
