"""Attacks a web process with the cases, and compares memory, open files and logs with those before."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil

from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment, eventually
from devtools.hostile.attack import Attack
from devtools.hostile.cases import CASES

#: Threads that send at the same time.
_THREADS = 8


def send_cases(attack: Attack, count: int, seed: int = 1) -> None:
    """Sends `count` cases from several threads at once."""
    kinds = cycle(CASES)
    jobs = [(next(kinds), seed * 1_000_000 + number) for number in range(count)]
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not jobs:
                    return
                case, number = jobs.pop()
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                case(attack, random.Random(number))

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def open_slow(attack: Attack, count: int) -> list[socket.socket]:
    """Connections that never finish a head or a handshake, and one in twenty-five a body."""
    heads = [b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", attack.handshake()[:-2], b""] * 16
    heads += [b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nname="] * 2
    sockets = []
    for number in range(count):
        sock = attack.connect()
        sock.sendall(heads[number % len(heads)])
        sockets.append(sock)
    return sockets


@dataclass(frozen=True)
class Footprint:
    """The process ids, the memory in bytes and the open files of a web server."""

    pids: tuple[int, ...]
    memory: int
    files: int

    @classmethod
    def of(cls, pid: int, redis_port: int) -> Footprint:
        """Measures without connections to Redis: a pool holds as many as were once needed."""
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return cls(
            tuple(sorted(process.pid for process in processes)),
            sum(process.memory_info().rss for process in processes),
            sum(
                process.num_fds() - sum(bool(c.raddr) and c.raddr.port == redis_port for c in process.net_connections())
                for process in processes
            ),
        )


def talk(chat: Deployment, count: int = 20) -> None:
    """Asks as a well-behaved client does."""
    for _ in range(count):
        with ChatClient(chat.url()) as client:
            client.ask("is all well?")


def assault(chat: Deployment, cases: int, slow: int, seed: int) -> dict[str, Any]:
    """Attacks the first web process; returns counts, and `unharmed`."""
    web = chat.webs[0]
    attack = Attack(int(web.env["PORT"]), new_session(chat.url())["token"])
    # Loaded at first use: not a leak.
    talk(chat)
    send_cases(attack, len(CASES) * 10, seed - 1)
    before = _settled(web.pid, chat.redis_port)
    slow_sockets = open_slow(attack, slow)
    began = time.monotonic()
    send_cases(attack, cases, seed)
    took = time.monotonic() - began
    left = [sock for sock in slow_sockets if not _is_closed(sock, max(began + 45, time.monotonic() + 1))]
    for sock in slow_sockets:
        sock.close()
    talk(chat)
    with contextlib.suppress(AssertionError):
        eventually(lambda: Footprint.of(web.pid, chat.redis_port).files <= before.files, 15)
        # A web process returns memory to the system at intervals.
        eventually(lambda: Footprint.of(web.pid, chat.redis_port).memory <= before.memory * 1.1, 20)
    after = _settled(web.pid, chat.redis_port)
    log = Path(web.log_path).read_text("utf-8", "replace")
    return {
        "cases": cases,
        "seconds": round(took, 1),
        "answers": dict(attack.answers.most_common()),
        "memory_before": before.memory,
        "memory_after": after.memory,
        "memory_ratio": round(after.memory / before.memory, 3),
        "files_before": before.files,
        "files_after": after.files,
        "slow": slow,
        "slow_left_open": len(left),
        "tracebacks_to_clients": len(attack.tracebacks),
        "tracebacks_in_log": log.count("Traceback"),
        "first_in_log": log[log.find("Traceback") :][:4000] if "Traceback" in log else None,
        "unharmed": (
            before.pids == after.pids
            and after.memory <= before.memory * 1.1
            and after.files <= before.files
            and not left
            and not attack.tracebacks
            and "Traceback" not in log
        ),
    }


def _settled(pid: int, redis_port: int) -> Footprint:
    """The footprint after closed connections have disappeared from it."""
    found, since = Footprint.of(pid, redis_port), time.monotonic()
    # A closing handshake may take two seconds.
    while time.monotonic() - since < 3:
        time.sleep(0.1)
        again = Footprint.of(pid, redis_port)
        if again.files != found.files:
            since = time.monotonic()
        found = again
    return found


def _is_closed(sock: socket.socket, deadline: float) -> bool:
    try:
        sock.settimeout(max(deadline - time.monotonic(), 0.1))
        while sock.recv(4096):
            continue
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
