"""Where web and worker spend their CPU, by py-spy, in milliseconds a reply."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench import report, results
from bench.load_generator import Client, close_all, connect_all
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Table
from bench.system import STREAMED, ChatSystem, chat, run
from devtools.paths import BIN

#: Samples a second: few enough to cost little, enough for a resolution of one per cent in ten seconds.
_RATE = 200

#: The kinds of stacks: a stack is of the first kind of which it holds every mark. Marks are separated by &.
WORKER_KINDS = (
    ("Celery: events", "celery/events/"),
    ("logging", "logging/__init__.py"),
    ("Redis: claim, commit", "chatbot/sessions/leases.py & chatbot/worker/replies.py"),
    ("progress of replies: one thread", "chatbot/worker/streams.py & (_run"),
    ("listener: heartbeat, stop", "chatbot/store/listener.py"),
    ("model: events, text", "chatbot/worker/models/answers/reading.py"),
    ("model: events, text", "chatbot/worker/models/base.py & chatbot/worker/generation.py"),
    ("model: HTTP", "chatbot/worker/models/"),
    ("model: events, text", "chatbot/worker/prompts.py"),
    ("the rest of a reply", "chatbot/worker/"),
    ("Celery: the task's frame (trace)", "celery/app/trace.py"),
    ("Celery: receiving", "kombu/"),
    ("Celery: receiving", "celery/worker/"),
    ("Celery: the pool", "celery/concurrency/"),
    ("Celery: the pool", "concurrent/futures/"),
)
WEB_KINDS = (
    ("logging", "logging/__init__.py"),
    ("publishing the task: Celery", "chatbot/web/enqueue.py & kombu/"),
    ("publishing the task: Celery", "chatbot/web/enqueue.py & celery/"),
    ("publishing the task: enqueue", "chatbot/web/enqueue.py"),
    ("listener: fan-out to sockets", "chatbot/store/listener.py & chatbot/web/fanout/hub.py"),
    ("listener: receiving", "chatbot/store/listener.py"),
    ("accept: Redis", "chatbot/sessions/messages.py & redis/"),
    ("accept: the message's document", "chatbot/sessions/messages.py"),
    ("frames: checking", "chatbot/protocol/"),
    ("sending frames", "chatbot/web/fanout/outbox.py"),
    ("frames: reading, websocket protocol", "simple_websocket/"),
    ("frames: reading, websocket protocol", "wsproto/"),
    ("the rest of the socket", "chatbot/web/transports/chat_socket.py"),
    ("the rest of the socket", "chatbot/web/transports/frame_handler.py"),
    ("the rest of the socket", "chatbot/web/transports/lifetime.py"),
    ("gevent's loop", "gevent/"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="seconds for which each process is sampled (8)")
    parser.add_argument("--keep", type=Path, help="folder for the raw stacks, for flame graphs")
    options = parser.parse_args()
    outcome = Outcome()
    with PacedModel() as model, chat(model) as system:
        for what, users, pace in (
            ("10 users, model at 0 ms", 10, Pace()),
            ("100 users, model at 0.5 s in 25 tokens", 100, STREAMED),
        ):
            outcome.tables += run(_profile(system, what, users, pace, options.seconds, options.keep))
    report.print_outcome(outcome)
    results.save("profile", outcome)
    return 0


async def _profile(
    system: ChatSystem, what: str, users: int, pace: Pace, seconds: int, keep: Path | None
) -> list[Table]:
    system.model.set(pace)
    clients = system.clients(users)
    await connect_all(clients, system.url)
    # First without py-spy for the cost of a reply, then with it for the shares.
    result, cost = await system.talk(clients, seconds / 2, 2.0)
    tables = []
    for part, process, kinds in (
        ("worker", system.deployment.workers[0], WORKER_KINDS),
        ("web", system.deployment.webs[0], WEB_KINDS),
    ):
        raw = (keep or system.deployment.folder) / f"{part}-{users}.txt"
        stacks = await _sample(system, clients, process.pid, seconds, raw)
        found = Counter[str]()
        for stack, count in stacks:
            found[_kind(stack, kinds)] += count
        total, each = sum(found.values()), cost.per(len(result.latencies), part)
        tables.append(
            Table(
                f"{part}: {each:.2f} ms of CPU a reply ({what})",
                ["what", "share", "ms a reply"],
                [[kind, f"{n / total:.0%}", f"{each * n / total:.2f}"] for kind, n in found.most_common()],
            )
        )
    await close_all(clients)
    return tables


async def _sample(
    system: ChatSystem, clients: Sequence[Client], pid: int, seconds: int, raw: Path
) -> list[tuple[str, int]]:
    command = [str(BIN / "py-spy"), "record", "--pid", str(pid), "--subprocesses", "--gil", "--full-filenames"]
    command += ["--function", "--format", "raw", "--rate", str(_RATE), "--duration", str(seconds), "--output", str(raw)]
    spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    await system.talk(clients, seconds + 1.0, 0.5)
    said = await asyncio.to_thread(spy.communicate)
    if spy.returncode:
        raise RuntimeError(f"py-spy could not sample {pid} (it needs the permission to trace): {said[0]}")
    return [(stack, int(count)) for stack, _, count in (line.rpartition(" ") for line in raw.read_text().splitlines())]


def _kind(stack: str, kinds: Sequence[tuple[str, str]]) -> str:
    for kind, marks in kinds:
        if all(mark in stack for mark in marks.split(" & ")):
            return kind
    return "else"


if __name__ == "__main__":
    sys.exit(main())
