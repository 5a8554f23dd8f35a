"""The system under test: the chat's processes, the model server, a meter for all of them, and sessions."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.load_generator import Client, Result, Talk, converse, drain
from bench.meter import Cost, Meter, memory
from bench.paced_model import Pace, PacedModel
from chatbot.sessions.ids import session_id
from chatbot.sessions.sessions import Sessions
from devtools.harness.deployment import Deployment
from devtools.harness.histories import store_turns, stored_messages

#: Seconds that the sessions of a benchmark live: longer than any benchmark.
_TTL = 7200
#: Share of one core below which a process counts as idle: heartbeats and sweeps take less.
_CALM = 0.05

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """How long to measure. `scale` is a factor for all durations and counts; the suite's own test has a small one."""

    runs: int = 3
    scale: float = 1.0

    def seconds(self, full: float) -> float:
        return full * self.scale

    def count(self, full: int, least: int = 2) -> int:
        return max(int(full * self.scale), least)


class ChatSystem:
    """One deployment under load."""

    def __init__(self, deployment: Deployment, model: PacedModel) -> None:
        self.deployment = deployment
        self.model = model
        self.url = deployment.url()
        self._sessions = Sessions(deployment.partitions, ttl=_TTL, max_pending=8)
        self._made = 0

    def clients(self, count: int) -> list[Client]:
        """New sessions, each with a client that is not yet connected."""
        first, self._made = self._made, self._made + count
        return [Client(n, str(self._sessions.create(f"client {n}")["token"])) for n in range(first, first + count)]

    def give_history(self, client: Client, messages: int) -> None:
        """Stores turns in a client's session directly, as if they had taken place."""
        asked = [f"client {client.number} asked {turn}" for turn in range(messages // 2)]
        texts = [(text, f"You said: {text} .") for text in asked]
        store_turns(self.deployment.client, session_id(client.token), texts, _TTL)

    def meter(self) -> Meter:
        chat = self.deployment
        return Meter(
            {
                "web": [p.pid for p in chat.webs if p.running],
                "worker": [p.pid for p in chat.workers if p.running],
                "redis": [process.pid for process in chat.redis_servers.values()],
                "model": [self.model.pid],
            }
        )

    async def stream(self, clients: Sequence[Client], talk: Talk, seconds: float) -> int:
        """Every client asks once, for a reply that takes `seconds`; the worker's memory in the middle, in bytes."""
        talk.open()
        for client in clients:
            client.on_done = lambda _: None
            client.say(talk)
        await asyncio.sleep(seconds / 2)
        memory = self.memory()["worker"]
        await asyncio.sleep(seconds / 2)
        await drain(talk)
        return memory

    async def calm(self, timeout: float = 30.0) -> None:
        """Waits until the aftermath of earlier work, such as closing thousands of sockets, takes no more CPU."""
        deadline = time.monotonic() + timeout
        meter = self.meter()
        while time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            cost = meter.lap()
            if all(cost.share(part) < _CALM for part in ("web", "worker", "redis")):
                return

    def memory(self) -> dict[str, int]:
        """Bytes."""
        chat = self.deployment
        return {
            "web": memory(p.pid for p in chat.webs if p.running),
            "worker": memory(p.pid for p in chat.workers if p.running),
            "redis": memory([chat.redis.pid]),
        }

    async def talk(
        self, clients: Sequence[Client], seconds: float, warm_up: float, **options: Any
    ) -> tuple[Result, Cost]:
        """Lets connected clients talk for `seconds` after `warm_up`; returns the result and its cost."""
        meter = self.meter()
        costs: list[Cost] = []
        result = await converse(clients, seconds, warm_up=warm_up, laps=lambda _: costs.append(meter.lap()), **options)
        return result, costs[1]

    def check_history(self, clients: Sequence[Client], result: Result) -> None:
        """Checks in the stored histories that every message has one reply, in order."""
        for client in clients:
            stored = stored_messages(self._sessions, session_id(client.token))
            asked = [m["id"] for m in stored if m["source"] == "human"]
            answered = [m["reply_to"] for m in stored if m["source"] == "bot"]
            if asked != answered:
                result.problems.append(f"client {client.number}: {len(asked)} stored, {len(answered)} answered")


@contextlib.contextmanager
def chat(model: PacedModel, kind: type[Deployment] = Deployment, **settings: Any) -> Iterator[ChatSystem]:
    """A deployment with default settings except those given."""
    with kind(model.url, **settings) as deployment:
        yield ChatSystem(deployment, model)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chatbot-bench-") as name:
        yield Path(name)


def run(main: Coroutine[Any, Any, T]) -> T:
    # Not uvloop, from which picows gains little: after an error it may wait forever for open sockets.
    with asyncio.Runner() as runner:
        return runner.run(main)


#: What the tables call "the model at 0.5 s in 25 tokens": one every 20 ms, the first after 20 ms.
STREAMED = Pace(first=0.02, interval=0.02, tokens=25)
