"""`make alerts`: makes every fault that an alert stands for, on the real processes, and watches a real Prometheus."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import requests
import websocket

from chatbot.sessions.ids import session_id
from chatbot.store.keys import session_keys
from devtools.alerts.prometheus import RULES, Prometheus
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, Closed, new_session
from devtools.harness.deployment import Deployment, Process, eventually, free_port
from devtools.local.redis_server import redis_command

#: Seconds to wait for an alert to fire, and for all to be calm again.
PATIENCE = 90.0
#: Sockets that the second web process takes, people's included.
MAX_SOCKETS = 20


class Stage:
    """The deployment, with people who talk all the time."""

    def __init__(self, chat: Deployment, model: ModelServer, broker: Process) -> None:
        self.chat = chat
        self.model = model
        self.broker = broker
        self._ending = threading.Event()
        self._people = [threading.Thread(target=self._talk, args=(n,), daemon=True) for n in range(4)]

    def begin(self) -> None:
        for person in self._people:
            person.start()

    def end(self) -> None:
        self._ending.set()
        for person in self._people:
            person.join(60)

    def _talk(self, number: int) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(OSError, Closed, websocket.WebSocketException, requests.RequestException):
                self._converse(number)
            self._ending.wait(0.2)

    def _converse(self, number: int) -> None:
        with ChatClient(self.chat.url(number % 2)) as client:
            client.ws.settimeout(3)
            while not self._ending.is_set():
                client.ask("how are you?")
                self._ending.wait(0.3)


@contextmanager
def web_killed(stage: Stage) -> Iterator[None]:
    stage.chat.webs[1].kill()
    yield
    stage.chat.webs[1].start()


@contextmanager
def redis_killed(stage: Stage) -> Iterator[None]:
    stage.chat.redis.kill()
    yield
    stage.chat.redis.start()
    stage.chat.wait_for_redis()


@contextmanager
def broker_killed(stage: Stage) -> Iterator[None]:
    stage.broker.kill()
    yield
    stage.broker.start()


@contextmanager
def listener_deaf(stage: Stage) -> Iterator[None]:
    stage.chat.client.execute_command("ACL", "SETUSER", "default", "resetchannels")
    yield
    stage.chat.client.execute_command("ACL", "SETUSER", "default", "allchannels")


@contextmanager
def workers_stopped(stage: Stage) -> Iterator[None]:
    for worker in stage.chat.workers:
        worker.stop()
    yield
    for worker in stage.chat.workers:
        worker.start()


@contextmanager
def worker_frozen(stage: Stage) -> Iterator[None]:
    stage.chat.workers[1].signal(signal.SIGSTOP)
    yield
    stage.chat.workers[1].signal(signal.SIGCONT)


@contextmanager
def beat_killed(stage: Stage) -> Iterator[None]:
    stage.chat.beat.kill()
    yield
    stage.chat.beat.start()


@contextmanager
def model_with(stage: Stage, **settings: object) -> Iterator[None]:
    stage.model.control(**settings)
    yield
    stage.model.reset()


@contextmanager
def model_fails(stage: Stage) -> Iterator[None]:
    stage.model.fault("unauthorized")
    yield
    stage.model.reset()


@contextmanager
def too_many_sockets(stage: Stage) -> Iterator[None]:
    clients = [ChatClient(stage.chat.url(1)) for _ in range(MAX_SOCKETS + 1)]
    yield
    for client in clients:
        client.cut()


@contextmanager
def client_never_reads(stage: Stage) -> Iterator[None]:
    with ChatClient(stage.chat.url(0)) as reads, ChatClient(stage.chat.url(1), reads.token) as reads_not:
        reads_not.receive()
        # The reply repeats it, as a delta and whole: some MB in all, more than is kept for anybody.
        for _ in range(80):
            reads.ask("🐢" * 4000)
        yield


@contextmanager
def bug(stage: Stage) -> Iterator[None]:
    """A stored document that is none."""
    token = new_session(stage.chat.url())["token"]
    stage.chat.client.execute_command("JSON.SET", session_keys(session_id(token)).document, "$", "5")
    answer = requests.get(stage.chat.url() + "/refresh_token", params={"token": token}, timeout=10)
    assert answer.status_code == 500, answer.text
    yield


FAULTS: dict[str, Callable[[Stage], AbstractContextManager[None]]] = {
    "ChatbotWebDown": web_killed,
    "ChatbotRedisDown": redis_killed,
    "ChatbotBrokerDown": broker_killed,
    "ChatbotListenerDeaf": listener_deaf,
    "ChatbotNoWorkers": workers_stopped,
    "ChatbotWorkerSilent": worker_frozen,
    "ChatbotNoSweeps": beat_killed,
    "ChatbotWorkersBehind": workers_stopped,
    "ChatbotRepliesLate": partial(model_with, first=20_000),
    "ChatbotFirstTokenSlow": partial(model_with, first=600),
    "ChatbotModelFailing": model_fails,
    "ChatbotRepliesFail": model_fails,
    "ChatbotTooManySockets": too_many_sockets,
    "ChatbotSlowClients": client_never_reads,
    "ChatbotErrors": bug,
}


def main() -> int:
    """Runs the faults; exit status 1 when an alert does not fire, or fires where nothing is wrong."""
    parser = argparse.ArgumentParser(prog="make alerts", description=__doc__)
    parser.add_argument("alerts", nargs="*", metavar="ALERT", help="all by default")
    parser.add_argument("--pace", type=float, default=30, help="how many times faster the rules are (30)")
    parser.add_argument("--calm", type=float, default=20, help="seconds for which nothing may fire at first (20)")
    options = parser.parse_args()
    rules = set(re.findall(r"alert: (\w+)", RULES.read_text("utf-8")))
    if rules != set(FAULTS):
        parser.error(f"a rule without a fault, or the other way round: {', '.join(rules ^ set(FAULTS))}")
    promtool = shutil.which("promtool")
    if promtool is None:
        parser.error("promtool is not on PATH: apt install prometheus")
    subprocess.run([promtool, "check", "rules", str(RULES)], check=True)
    with ModelServer(tokens=6, record=False) as model:
        port = free_port()
        deployment = Deployment(
            model.url,
            webs=2,
            workers=2,
            celery_broker_url=f"redis://127.0.0.1:{port}/0",
            worker_health_timeout=3,
            model_attempts=1,
            max_sockets=MAX_SOCKETS,
        )
        folder = deployment.folder / "broker"
        folder.mkdir()
        broker = Process("broker", redis_command(port, folder), deployment.env, deployment.folder / "broker.log")
        broker.start()
        try:
            with deployment as chat:
                return _watch(chat, model, broker, options)
        finally:
            broker.kill()


def _watch(chat: Deployment, model: ModelServer, broker: Process, options: argparse.Namespace) -> int:
    stage = Stage(chat, model, broker)
    bad = False
    urls = [chat.url(0), chat.url(1)]
    with Prometheus(chat.folder / "prometheus", urls, options.pace) as prometheus:
        stage.begin()
        until = time.monotonic() + options.calm
        while time.monotonic() < until:
            if firing := prometheus.firing():
                print(f"nothing is wrong, and yet: {', '.join(sorted(firing))}")
                return 1
            time.sleep(0.5)
        print(f"a healthy deployment under load: no alert in {options.calm:g} s")
        _check_dashboard(prometheus)
        print(f"{'fault':24} {'fires after s':>13} {'calm after s':>12}  besides")
        for name in options.alerts or FAULTS:
            bad = not _try(stage, prometheus, name) or bad
        stage.end()
    return 1 if bad else 0


def _try(stage: Stage, prometheus: Prometheus, name: str) -> bool:
    began = time.monotonic()
    with FAULTS[name](stage):
        besides: set[str] = set()

        def fires() -> bool:
            besides.update(prometheus.firing())
            return name in besides

        try:
            eventually(fires, PATIENCE, name)
        except AssertionError:
            print(f"{name:24} {'DOES NOT FIRE':>13}", flush=True)
            return False
        fired = time.monotonic() - began
    began = time.monotonic()
    try:
        eventually(lambda: not prometheus.firing(), PATIENCE * 2, "all is calm")
    except AssertionError:
        print(f"{name:24} {fired:13.1f} {'STILL FIRES':>12}  {', '.join(prometheus.firing())}", flush=True)
        return False
    others = ", ".join(sorted(besides - {name}))
    print(f"{name:24} {fired:13.1f} {time.monotonic() - began:12.1f}  {others}", flush=True)
    return True


def _check_dashboard(prometheus: Prometheus) -> None:
    """Every query of the dashboard is one that Prometheus understands, and most have something to show."""
    panels = json.loads((Path(RULES).parent / "dashboard.json").read_text("utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    empty = [e for e in expressions if not prometheus.query(e.replace("$__rate_interval", "15s"))]
    print(f"dashboard: {len(expressions)} queries, empty while nothing is wrong: {empty}")


if __name__ == "__main__":
    sys.exit(main())
