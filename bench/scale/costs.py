"""What one idle socket, message, token, session and sweep costs: measured small, with real processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench.load_generator import Client, Talk, close_all, connect_all
from bench.meter import Cost, Meter
from bench.paced_model import Pace, PacedModel
from bench.system import ChatSystem, chat, run
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.ledger import SWEEP_SIZE, Ledger
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.client import connect
from chatbot.store.keys import SWEPT
from devtools.harness.deployment import running_redis
from devtools.harness.histories import store_turns

#: Idle sockets; seconds for which they are watched, in which each is pinged once.
SOCKETS, _WATCHED = 2000, 25.0
#: Messages in a stored history, each of so many characters.
HISTORY, LENGTH = 20, 200
#: Streams at 20 tokens/s, and seconds; users who get their reply at once, and seconds.
STREAMS, _STREAMED, USERS, _TALKED = 200, 10.0, 20, 8.0
PARTS = ("web", "worker", "redis", "broker")


class _Counting(Client):
    """A client that counts the bytes it receives, with the head of each frame."""

    received = 0

    def take(self, data: bytes) -> None:
        self.received += len(data) + (2 if len(data) < 126 else 4)
        super().take(data)


@dataclass(frozen=True)
class Each:
    """Costs of one message or token: microseconds of CPU by part, bytes through the store's Redis and to clients."""

    rate: float
    cpu: dict[str, float]
    redis_in: float
    redis_out: float
    to_client: float


@dataclass(frozen=True)
class Costs:
    """All that was measured; bytes, and microseconds of CPU."""

    #: Of one idle socket: memory of web and Redis, CPU a second of web and Redis, file descriptors of web.
    socket_web: float
    socket_redis: float
    socket_cpu_web: float
    socket_cpu_redis: float
    socket_files: float
    #: Memory of Redis: a new session, and one with a history.
    session: float
    history: float
    #: Memory of processes without load.
    base_web: int
    base_worker: int
    #: Memory of a worker for one of its replies in progress.
    stream_worker: float
    message: Each
    token: Each
    #: Milliseconds of Redis for a sweep that reads as many leases as its limit.
    sweep: float


def measure() -> Costs:
    """Runs all measurements, for about two minutes."""
    with running_redis() as broker_url, PacedModel() as model:
        broker = int(redis.Redis.from_url(broker_url).info("server")["process_id"])
        with chat(model, celery_broker_url=broker_url, max_new_tokens=5000) as system:
            found = run(_measure(system, broker))
    with running_redis() as url:
        return Costs(**found, sweep=_sweep(connect(url, 10)))


async def _measure(system: ChatSystem, broker: int) -> dict[str, Any]:
    store, chat_ = system.deployment.client, system.deployment
    meter = _meter(system, broker)
    system.model.set(Pace())
    talkers = [_Counting(c.number, c.token) for c in system.clients(STREAMS)]
    await connect_all(talkers, system.url)
    await system.talk(talkers[:USERS], 1.0, 1.0)
    message = await _talk(system, talkers[:USERS], meter)
    base = system.memory()
    token, streaming = await _stream(system, talkers, meter)
    await close_all(talkers)
    await system.calm()
    before = store.info("memory")["used_memory"]
    crowd = await asyncio.to_thread(system.clients, SOCKETS)
    created = store.info("memory")["used_memory"]
    empty, files = system.memory()["web"], _files(chat_.webs[0].pid)
    meter.lap()
    await asyncio.sleep(5)
    idle = meter.lap()
    await connect_all(crowd, system.url)
    await asyncio.sleep(2)
    full, open_files = system.memory()["web"], _files(chat_.webs[0].pid)
    subscribed = store.info("memory")["used_memory"]
    meter.lap()
    await asyncio.sleep(_WATCHED)
    watched = meter.lap()
    stored = store.info("memory")["used_memory"]
    for client in crowd[:100]:
        text = "x" * LENGTH
        store_turns(store, session_id(client.token), [(text, text)] * (HISTORY // 2), 7200)
    history = (store.info("memory")["used_memory"] - stored) / 100
    await close_all(crowd)
    session = (created - before) / SOCKETS
    return {
        "socket_web": (full - empty) / SOCKETS,
        "socket_redis": (subscribed - created) / SOCKETS,
        "socket_cpu_web": _growth(watched, idle, "web"),
        "socket_cpu_redis": _growth(watched, idle, "redis"),
        "socket_files": (open_files - files) / SOCKETS,
        "session": session,
        "history": session + history,
        "base_web": base["web"],
        "base_worker": base["worker"],
        "stream_worker": max(streaming - base["worker"], 0) / STREAMS,
        "message": message,
        "token": token,
    }


def _meter(system: ChatSystem, broker: int) -> Meter:
    chat_ = system.deployment
    pids = [[p.pid for p in chat_.webs], [p.pid for p in chat_.workers], [chat_.redis.pid], [broker]]
    return Meter(dict(zip(PARTS, pids, strict=True)))


async def _talk(system: ChatSystem, clients: Sequence[_Counting], meter: Meter) -> Each:
    """Messages that are answered at once, in one chunk."""
    traffic = _Traffic(system, clients)
    meter.lap()
    result, _ = await system.talk(clients, _TALKED, 0)
    cost = meter.lap()
    if not result.kept:
        raise RuntimeError(f"the conversation was broken: {result.trouble()}")
    return traffic.each(result.answered, cost)


async def _stream(system: ChatSystem, clients: Sequence[_Counting], meter: Meter) -> tuple[Each, int]:
    """Tokens of streams, and the worker's memory meanwhile."""
    system.model.set(Pace(0.05, 0.05, int(_STREAMED * 20), stamped=True))
    traffic, talk = _Traffic(system, clients), Talk()
    meter.lap()
    memory = await system.stream(clients, talk, _STREAMED)
    cost = meter.lap()
    if not talk.result.kept:
        raise RuntimeError(f"the streams were broken: {talk.result.trouble()}")
    return traffic.each(system.model.sent()["tokens"], cost), memory


class _Traffic:
    """Bytes through the store's Redis and to clients since it was made."""

    def __init__(self, system: ChatSystem, clients: Sequence[_Counting]) -> None:
        self._system, self._clients = system, clients
        self._before = self._now()

    def _now(self) -> tuple[float, float, float]:
        stats = self._system.deployment.client.info("stats")
        received = sum(client.received for client in self._clients)
        return stats["total_net_input_bytes"], stats["total_net_output_bytes"], received

    def each(self, count: float, cost: Cost) -> Each:
        cpu = {part: cost.cpu[part] * 1e6 / count for part in PARTS}
        used = [(now - before) / count for now, before in zip(self._now(), self._before, strict=True)]
        return Each(count / cost.seconds, cpu, *used)


def _growth(watched: Cost, idle: Cost, part: str) -> float:
    """Microseconds a second for one socket."""
    return max(watched.share(part) - idle.share(part), 0.0) * 1e6 / SOCKETS


def _files(pid: int) -> int:
    """Open files of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in (pid, *map(int, children)))


def _sweep(client: redis.Redis) -> float:
    sessions, leases = Sessions(client, ttl=600, max_pending=2), Leases(client, ttl=600, history_messages=4)
    for _ in range(SWEEP_SIZE):
        session = session_id(sessions.create("Ada")["token"])
        sessions.requests.accept(session, "m1", "hello", Terms(address="10.0.0.1"))
        leases.claim(session)
    ledger, took = Ledger(client), []
    for _ in range(5):
        client.delete(SWEPT)
        began = time.perf_counter()
        ledger.overdue()
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[2]
