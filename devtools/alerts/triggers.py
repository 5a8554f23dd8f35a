"""For every alert a fault that triggers it, inflicted on real processes while users talk."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import requests
import websocket

from chatbot.sessions.ids import session_id
from chatbot.store.access import LEAST_ACL
from chatbot.store.keys import session_keys
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, Closed, new_session
from devtools.harness.deployment import USER, Deployment, Process, eventually

#: Sockets that the second web process accepts, those of the talking users included.
MAX_SOCKETS = 20
#: Seconds for which a web process is held: more than the rule allows, less than gunicorn does.
_HELD = 4.0


class LiveChat:
    """A deployment with users who talk all the time."""

    def __init__(self, chat: Deployment, model: ModelServer, broker: Process) -> None:
        self.chat = chat
        self.model = model
        self.broker = broker
        self._ending = threading.Event()
        self._users = [threading.Thread(target=self._talk, args=(n,), daemon=True) for n in range(4)]

    def start_talking(self) -> None:
        for user in self._users:
            user.start()

    def stop_talking(self) -> None:
        self._ending.set()
        for user in self._users:
            user.join(60)

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
def web_killed(live: LiveChat) -> Iterator[None]:
    live.chat.webs[1].kill()
    yield
    live.chat.webs[1].start()


@contextmanager
def redis_killed(live: LiveChat) -> Iterator[None]:
    live.chat.redis.kill()
    yield
    live.chat.redis.start()
    live.chat.wait_for_redis()


@contextmanager
def _redis_setting(live: LiveChat, name: str, value: int) -> Iterator[None]:
    """Changes a setting of Redis whose usual value is 0."""
    live.chat.client.config_set(name, value)
    yield
    live.chat.client.config_set(name, 0)


@contextmanager
def redis_full(live: LiveChat) -> Iterator[None]:
    with _redis_setting(live, "maxmemory", 1):
        yield


@contextmanager
def broker_killed(live: LiveChat) -> Iterator[None]:
    live.broker.kill()
    yield
    live.broker.start()


@contextmanager
def listener_deaf(live: LiveChat) -> Iterator[None]:
    live.chat.client.execute_command("ACL", "SETUSER", USER, "resetchannels")
    yield
    live.chat.client.execute_command("ACL", "SETUSER", USER, *LEAST_ACL.split())


@contextmanager
def replicas_missing(live: LiveChat) -> Iterator[None]:
    """Redis answers reads and refuses writes."""
    with _redis_setting(live, "min-replicas-to-write", 1):
        yield


@contextmanager
def loop_held(live: LiveChat) -> Iterator[None]:
    """Freezes a web process for longer than any loop may take."""
    master = live.chat.webs[1].pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text("ascii")
    process = int(children.split()[0])
    os.kill(process, signal.SIGSTOP)
    time.sleep(_HELD)
    os.kill(process, signal.SIGCONT)
    yield


@contextmanager
def redis_killed_during_replies(live: LiveChat) -> Iterator[None]:
    """Workers count what they could not report, and say so once Redis is back."""
    workers = live.chat.workers
    failed = sum(worker.log.count("could not be reported") for worker in workers)
    live.model.control(tokens=100, interval=100)
    with ChatClient(live.chat.url()) as client:
        client.send("go on")
        client.until("delta")
        live.chat.redis.kill()
        eventually(lambda: sum(worker.log.count("could not be reported") for worker in workers) > failed, 30)
        live.chat.redis.start()
        live.chat.wait_for_redis()
        live.model.reset()
        yield


@contextmanager
def workers_stopped(live: LiveChat) -> Iterator[None]:
    for worker in live.chat.workers:
        worker.stop()
    yield
    for worker in live.chat.workers:
        worker.start()


@contextmanager
def worker_frozen(live: LiveChat) -> Iterator[None]:
    live.chat.workers[1].signal(signal.SIGSTOP)
    yield
    live.chat.workers[1].signal(signal.SIGCONT)


@contextmanager
def model_with(live: LiveChat, **settings: object) -> Iterator[None]:
    live.model.control(**settings)
    yield
    live.model.reset()


@contextmanager
def model_fails(live: LiveChat) -> Iterator[None]:
    live.model.fault("unauthorized")
    yield
    live.model.reset()


@contextmanager
def too_many_sockets(live: LiveChat) -> Iterator[None]:
    clients = [ChatClient(live.chat.url(1)) for _ in range(MAX_SOCKETS + 1)]
    yield
    for client in clients:
        client.cut()


@contextmanager
def client_never_reads(live: LiveChat) -> Iterator[None]:
    with ChatClient(live.chat.url(0)) as reads, ChatClient(live.chat.url(1), reads.token) as silent:
        silent.receive()
        # Each reply repeats the text, as a delta and whole: some MB in all, more than an outbox holds.
        for _ in range(80):
            reads.ask("🐢" * 4000)
        yield


@contextmanager
def bug(live: LiveChat) -> Iterator[None]:
    """Stores bytes that are not UTF-8, which no code expects: a websocket's handler ends with an exception."""
    token = new_session(live.chat.url())["token"]
    live.chat.client.hset(session_keys(session_id(token)).failed, "m1", b"\xff")
    with contextlib.suppress(OSError, websocket.WebSocketException), ChatClient(live.chat.url(), token) as client:
        client.receive()
    yield


TRIGGERS: dict[str, Callable[[LiveChat], AbstractContextManager[None]]] = {
    "ChatbotWebDown": web_killed,
    "ChatbotRedisDown": redis_killed,
    "ChatbotRedisFull": redis_full,
    "ChatbotBrokerDown": broker_killed,
    "ChatbotListenerDeaf": listener_deaf,
    "ChatbotUnavailable": replicas_missing,
    "ChatbotEventLoopStuck": loop_held,
    "ChatbotEnqueueFails": broker_killed,
    "ChatbotReportsFail": redis_killed_during_replies,
    "ChatbotNoWorkers": workers_stopped,
    "ChatbotWorkerSilent": worker_frozen,
    "ChatbotWorkersBehind": workers_stopped,
    "ChatbotRepliesLate": partial(model_with, first=20_000),
    "ChatbotFirstTokenSlow": partial(model_with, first=600),
    "ChatbotModelFailing": model_fails,
    "ChatbotRepliesFail": model_fails,
    "ChatbotTooManySockets": too_many_sockets,
    "ChatbotSlowClients": client_never_reads,
    "ChatbotErrors": bug,
}
