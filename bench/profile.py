"""`make bench-profile`: where web and worker spend their CPU, by py-spy, in milliseconds a reply."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench import report, results
from bench.load import Client, close_all, connect_all
from bench.model import Model, Pace
from bench.results import Outcome, Table
from bench.stage import STREAMED, Chat, chat, run
from devtools.harness.deployment import BIN

#: Samples a second: few enough to cost little, enough for a per cent in ten seconds.
_RATE = 200

#: What a stack counts as: the first whose every part, separated by &, is in it.
_WORKER = (
    ("Celery: events", "celery/events/"),
    ("logging", "logging/__init__.py"),
    ("our Redis steps: claim, commit", "chatbot/leases.py & worker/replies.py"),
    ("progress of replies: one thread", "worker/streams.py & (_run"),
    ("listener: heartbeat, stop", "chatbot/listener.py"),
    ("model: HTTP", "worker/models/http.py & requests/"),
    ("model: HTTP", "worker/models/http.py & urllib3/"),
    ("model: HTTP", "worker/models/http.py"),
    ("model: events, text", "worker/models/"),
    ("model: events, text", "worker/prompts.py"),
    ("the rest of a reply", "chatbot/worker/"),
    ("Celery: the task's frame (trace)", "celery/app/trace.py"),
    ("Celery: receiving", "kombu/"),
    ("Celery: receiving", "celery/worker/"),
    ("Celery: the pool", "celery/concurrency/"),
    ("Celery: the pool", "concurrent/futures/"),
)
_WEB = (
    ("logging", "logging/__init__.py"),
    ("publishing the task: Celery", "web/enqueue.py & kombu/"),
    ("publishing the task: Celery", "web/enqueue.py & celery/"),
    ("publishing the task: our queue", "web/enqueue.py"),
    ("listener: fan-out to sockets", "chatbot/listener.py & web/hub.py"),
    ("listener: hearing", "chatbot/listener.py"),
    ("accept: the Redis step", "chatbot/sessions.py & redis/"),
    ("accept: the message's document", "chatbot/sessions.py"),
    ("frames: checking", "chatbot/schemas.py"),
    ("sending frames", "web/transport.py"),
    ("frames: reading, websocket protocol", "simple_websocket/"),
    ("frames: reading, websocket protocol", "wsproto/"),
    ("the rest of the socket", "web/socket.py"),
    ("gevent's loop", "gevent/"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="how long each is watched (8)")
    parser.add_argument("--keep", type=Path, help="a folder for the raw stacks, for flame graphs")
    options = parser.parse_args()
    outcome = Outcome()
    with Model() as model, chat(model) as stage:
        for what, users, pace in (
            ("10 users, model at 0 ms", 10, Pace()),
            ("100 users, model at 0.5 s in 25 tokens", 100, STREAMED),
        ):
            outcome.tables += run(_profile(stage, what, users, pace, options.seconds, options.keep))
    report.print_outcome(outcome)
    results.save("profile", outcome)
    return 0


async def _profile(stage: Chat, what: str, users: int, pace: Pace, seconds: int, keep: Path | None) -> list[Table]:
    stage.model.set(pace)
    clients = stage.clients(users)
    await connect_all(clients, stage.url)
    # First without py-spy: that is what a reply costs; then with it: that is how it divides.
    result, cost = await stage.talk(clients, seconds / 2, 2.0)
    tables = []
    for part, process, kinds in (
        ("worker", stage.deployment.workers[0], _WORKER),
        ("web", stage.deployment.webs[0], _WEB),
    ):
        raw = (keep or stage.deployment.folder) / f"{part}-{users}.txt"
        stacks = await _watch(stage, clients, process.pid, seconds, raw)
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


async def _watch(stage: Chat, clients: Sequence[Client], pid: int, seconds: int, raw: Path) -> list[tuple[str, int]]:
    command = [str(BIN / "py-spy"), "record", "--pid", str(pid), "--subprocesses", "--gil", "--full-filenames"]
    command += ["--function", "--format", "raw", "--rate", str(_RATE), "--duration", str(seconds), "--output", str(raw)]
    spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    await stage.talk(clients, seconds + 1.0, 0.5)
    said = await asyncio.to_thread(spy.communicate)
    if spy.returncode:
        raise RuntimeError(f"py-spy could not watch {pid} (it needs the right to trace): {said[0]}")
    return [(stack, int(count)) for stack, _, count in (line.rpartition(" ") for line in raw.read_text().splitlines())]


def _kind(stack: str, kinds: Sequence[tuple[str, str]]) -> str:
    for kind, marks in kinds:
        if all(mark in stack for mark in marks.split(" & ")):
            return kind
    return "else"


if __name__ == "__main__":
    sys.exit(main())
