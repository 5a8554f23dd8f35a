"""Where web and worker spend their CPU, in milliseconds a reply.

How much each thread uses is the kernel's count (`schedstat`), and so is how often it is woken up. On what, py-spy
samples while the thread holds the interpreter's lock; time without it, in system calls, is spread in the same shares.
Samples are compared within a thread only, as threads that wait get some too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

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
    ("progress of replies", "chatbot/worker/open_streams.py & (_run"),
    ("progress of replies", "chatbot/worker/open_streams.py & (_report"),
    ("Redis: claim, commit", "chatbot/sessions/leases.py"),
    ("listener: heartbeat, stop", "chatbot/store/listener.py"),
    ("model: events, text", "chatbot/worker/models/answers/"),
    ("model: HTTP", "chatbot/worker/models/http/"),
    ("model: events, text", "chatbot/worker/generation.py"),
    ("the rest of a reply", "chatbot/worker/replies.py"),
    ("Redis: answers", "chatbot/worker/pipelined_scripts.py"),
    ("Celery: the task's frame (trace)", "celery/app/trace.py"),
    ("Celery: the pool", "chatbot/worker/pool.py"),
    ("the loop: waiting, libcurl", "chatbot/worker/models/event_loop.py"),
    ("Celery: receiving", "kombu/"),
    ("Celery: receiving", "celery/worker/"),
)
WEB_KINDS = (
    ("logging", "logging/__init__.py"),
    ("publishing the task: Celery", "chatbot/web/enqueue.py & kombu/"),
    ("publishing the task: Celery", "chatbot/web/enqueue.py & celery/"),
    ("publishing the task: enqueue", "chatbot/web/enqueue.py"),
    ("listener: fan-out to sockets", "chatbot/store/listener.py & chatbot/web/fanout/hub.py"),
    ("listener: receiving", "chatbot/store/listener.py"),
    ("accept: Redis", "chatbot/sessions/requests.py & redis/"),
    ("accept: the message's document", "chatbot/sessions/requests.py"),
    ("frames: checking", "chatbot/protocol/"),
    ("sending frames", "chatbot/web/fanout/outbox.py"),
    ("frames: reading, websocket protocol", "simple_websocket/"),
    ("frames: reading, websocket protocol", "wsproto/"),
    ("the rest of the socket", "chatbot/web/transports/chat_socket.py"),
    ("the rest of the socket", "chatbot/web/transports/frame_handler.py"),
    ("the rest of the socket", "chatbot/web/transports/lifetime.py"),
    ("gevent's loop", "gevent/"),
)


@dataclass(frozen=True)
class Thread:
    """What a thread has used: CPU in milliseconds, and how often it gave the CPU up to wait."""

    cpu: float = 0.0
    wakes: int = 0

    def since(self, before: Thread) -> Thread:
        return Thread(self.cpu - before.cpu, self.wakes - before.wakes)

    def added(self, other: Thread) -> Thread:
        return Thread(self.cpu + other.cpu, self.wakes + other.wakes)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-profile", description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="seconds for which each process is sampled (8)")
    parser.add_argument("--keep", type=Path, help="folder for the raw stacks, for flame graphs")
    options = parser.parse_args()
    outcome = Outcome()
    with PacedModel() as model, chat(model) as system:
        for what, users, pace in (
            ("1 user, model at 0 ms", 1, Pace()),
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
    tables = []
    for part, process, kinds in (
        ("worker", system.deployment.workers[0], WORKER_KINDS),
        ("web", system.deployment.webs[0], WEB_KINDS),
    ):
        raw = (keep or system.deployment.folder) / f"{part}-{users}.txt"
        # The threads are counted without py-spy, which stops them for each sample.
        threads, replies = await _threads(system, clients, process.pid, seconds / 2)
        stacks = await _sample(system, clients, process.pid, seconds, raw)
        names = await asyncio.to_thread(_names, process.pid)
        tables.append(_by_thread(f"{part}, {what}", threads, names, replies))
        tables.append(_by_kind(f"{part}, {what}", threads, stacks, kinds, replies))
    await close_all(clients)
    return tables


async def _threads(
    system: ChatSystem, clients: Sequence[Client], pid: int, seconds: float
) -> tuple[dict[int, Thread], int]:
    """What each thread has used while the clients talked, and how many replies they got."""
    await system.talk(clients, 1.0, 0)
    before = _counts(pid)
    result, _ = await system.talk(clients, seconds, 0)
    used = {tid: now.since(before.get(tid, Thread())) for tid, now in _counts(pid).items()}
    return {tid: thread for tid, thread in used.items() if thread.wakes}, result.answered


def _counts(root: int) -> dict[int, Thread]:
    """What the threads of a process and of its children have used so far, by thread id."""
    found = {}
    for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
        for folder in Path(f"/proc/{process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                spent = int((folder / "schedstat").read_text().split()[0])
                status = dict(line.split(":") for line in (folder / "status").read_text().splitlines() if ":" in line)
                found[int(folder.name)] = Thread(spent / 1e6, int(status["voluntary_ctxt_switches"]))
    return found


def _names(root: int) -> dict[int, str]:
    """The names of the threads, by thread id. Python names threads for itself alone."""
    found = {}
    for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True)):
        command = [str(BIN / "py-spy"), "dump", "--json", "--pid", str(process.pid)]
        dumped = subprocess.run(command, capture_output=True, text=True, check=False)
        if not dumped.returncode:
            found.update({thread["os_thread_id"]: thread["thread_name"] for thread in json.loads(dumped.stdout)})
    return found


def _by_thread(what: str, threads: Mapping[int, Thread], names: Mapping[int, str], replies: int) -> Table:
    sums: dict[str, Thread] = {}
    for tid, thread in threads.items():
        # Those of a pool count together.
        name = re.sub(r"[-_\d]+$", "", names.get(tid) or "the main thread")
        sums[name] = thread.added(sums.get(name, Thread()))
    rows = [
        [name, f"{each.cpu / replies:.3f}", f"{each.wakes / replies:.2f}"]
        for name, each in sorted(sums.items(), key=lambda item: -item[1].cpu)
    ]
    return Table(f"{what}: by thread", ["thread", "ms a reply", "wake-ups a reply"], rows)


def _by_kind(
    what: str,
    threads: Mapping[int, Thread],
    stacks: Sequence[tuple[str, int]],
    kinds: Sequence[tuple[str, str]],
    replies: int,
) -> Table:
    sampled: dict[int, Counter[str]] = {}
    for stack, count in stacks:
        # The first frame is the thread, with its id in hexadecimal or decimal digits.
        thread = re.search(r"thread \((0x)?([0-9a-fA-F]+)\)", stack)
        if thread is not None:
            sampled.setdefault(int(thread[2], 16 if thread[1] else 10), Counter())[_kind(stack, kinds)] += count
    found: dict[str, float] = {}
    for tid, used in threads.items():
        own = sampled.get(tid, Counter({"threads without a sample": 1}))
        for kind, count in own.items():
            found[kind] = found.get(kind, 0.0) + used.cpu * count / own.total()
    total = sum(found.values())
    rows = [
        [kind, f"{ms / total:.0%}", f"{ms / replies:.2f}"]
        for kind, ms in sorted(found.items(), key=lambda item: -item[1])
    ]
    return Table(f"{what}: {total / replies:.2f} ms of CPU a reply", ["what", "share", "ms a reply"], rows)


async def _sample(
    system: ChatSystem, clients: Sequence[Client], pid: int, seconds: int, raw: Path
) -> list[tuple[str, int]]:
    command = [
        str(BIN / "py-spy"),
        "record",
        "--pid",
        str(pid),
        "--subprocesses",
        "--threads",
        "--gil",
        "--full-filenames",
    ]
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
