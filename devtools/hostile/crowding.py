"""One client that takes more than its share of a web process, and how long the others wait meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import psutil
import requests

from devtools.harness.chat_client import ChatClient, Closed, new_session
from devtools.harness.deployment import Deployment
from devtools.hostile.attack import PING, TEXT, Attack, frame

#: Sockets of users that must survive.
_USERS = 20
#: Of the deployment that is attacked: one session may send and open much, to test what the process itself withstands.
SETTINGS: dict[str, Any] = {
    "ratelimit_enabled": "true",
    "ratelimit_session_messages": "2000/minute",
    "max_sockets_per_session": 10_000,
    "max_sockets_per_address": 1000,
    # The users have one address, the attackers another.
    "trusted_proxies": "127.0.0.0/8",
}
_ADDRESS = "192.0.2.1"
#: Requests sent ahead of their answers, or frames in one burst, in bytes.
_BURST = 256 * 1024
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Seconds that one user waits for an ack, a new socket or a probe, at most: the limits of `unharmed`.
ACK_LIMIT, PROBE_LIMIT = 0.1, 0.5


def back_to_back(attack: Attack, until: float) -> int:
    """Requests on one connection, each sent once the answer of the one before is there."""
    sent = 0
    with attack.connect() as sock, contextlib.suppress(OSError):
        while time.monotonic() < until:
            sock.sendall(_REQUEST)
            if not sock.recv(65536):
                break
            sent += 1
    return sent


def pipelined(attack: Attack, until: float) -> int:
    """Requests on one connection, hundreds sent ahead of their answers."""
    return _flood(attack, until, _REQUEST * 200)


def endless_body(attack: Attack, until: float) -> int:
    """A request whose body never ends, on one connection at a time."""
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n"
    return _flood(attack, until, b"x" * 65536, head)


def small_chunks(attack: Attack, until: float) -> int:
    """A request whose body comes in chunks of one byte and never ends."""
    head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return _flood(attack, until, b"1\r\nx\r\n" * 10_000, head)


def small_frames(attack: Attack, until: float) -> int:
    """Eight sockets that each send a burst of pings or of fragments of one byte, and reconnect."""
    fragments = frame(TEXT, b"x", fin=False) + frame(0, b"x", fin=False) * (_BURST // 7)
    bursts = [frame(PING, b"") * (_BURST // 6), fragments]
    return _in_threads(8, lambda number: _frames(attack, until, bursts[number % 2]))


def invalid_frames(attack: Attack, until: float) -> int:
    """One socket that sends frames that each get an error, and reads the errors."""
    return _frames(attack, until, frame(TEXT, b'{"type": 1}') * 5000, stay=True)


def made_up_tokens(attack: Attack, until: float) -> int:
    """Handshakes with tokens that no session has, from several threads."""

    def work(number: int) -> int:
        sent = 0
        other = Attack(attack.port, f"made-up-{number}")
        while time.monotonic() < until:
            with contextlib.suppress(OSError), other.connect() as sock:
                sock.settimeout(5)
                sock.sendall(other.handshake(X_Forwarded_For=_ADDRESS))
                sock.recv(4096)
                sent += 1
        return sent

    return _in_threads(8, work)


def every_seat(attack: Attack, until: float) -> int:
    """As many open sockets of one address as it gets, up to 4 000."""
    opened: list[socket.socket] = []
    while len(opened) < 4000 and time.monotonic() < until - 1:
        sock = attack.connect()
        opened.append(sock)
        sock.sendall(attack.handshake(X_Forwarded_For=_ADDRESS))
        if b" 101 " not in sock.recv(4096)[:20]:
            break
    while time.monotonic() < until:
        time.sleep(0.1)
    for sock in opened:
        sock.close()
    return len(opened)


#: `case(attack, until)` attacks until a monotonic time; returns how much it sent.
Case = Callable[[Attack, float], int]
CROWDING: tuple[Case, ...] = (
    back_to_back,
    pipelined,
    endless_body,
    small_chunks,
    small_frames,
    invalid_frames,
    made_up_tokens,
    every_seat,
)


def crowd(chat: Deployment, case: Case, seconds: float) -> dict[str, Any]:
    """Has one client carry out `case`, in a process of its own; returns what the users saw, and `unharmed`."""
    web = chat.webs[0]
    attack = Attack(int(web.env["PORT"]), new_session(chat.url())["token"])
    users = [ChatClient(chat.url()) for _ in range(_USERS)]
    for user in users:
        user.until("session")
    processes = _pids(web.pid)
    stop = threading.Event()
    acks, probes = _Watch(_ask(users[0]), stop), _Watch(_probe(chat.url()), stop)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    attacker = context.Process(target=_attack, args=(case, attack, seconds, sender))
    attacker.start()
    attacker.join(seconds + 60)
    stop.set()
    sent = receiver.recv() if receiver.poll() else None
    lost = sum(not _lives(user) for user in users)
    for user in users:
        user.cut()
    same = processes == _pids(web.pid)
    return {
        "case": case.__name__,
        "sent": sent,
        "acks": acks.summary(),
        "probes": probes.summary(),
        "sockets_lost": lost,
        "process_lives": same,
        "unharmed": same and not lost and acks.worst() <= ACK_LIMIT and probes.worst() <= PROBE_LIMIT,
    }


class _Watch(threading.Thread):
    """Calls a function about ten times a second, and stores how long each call took."""

    def __init__(self, call: Callable[[], None], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._stop_event = stop
        self.times: list[float] = []
        self.failures = 0
        self.start()

    def run(self) -> None:
        while not self._stop_event.wait(0.1):
            began = time.monotonic()
            try:
                self._call()
            except (OSError, Closed, requests.RequestException):
                self.failures += 1
            self.times.append(time.monotonic() - began)

    def worst(self) -> float:
        """The slowest call but for one in a hundred, in seconds: the machine is shared. Infinite after a failure."""
        if self.failures or not self.times:
            return float("inf")
        return sorted(self.times)[int(len(self.times) * 0.99)]

    def summary(self) -> dict[str, Any]:
        ordered = sorted(self.times) or [0.0]
        ms = [round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000) for share in (0.5, 0.99, 1)]
        return {"count": len(self.times), "failures": self.failures, "ms_p50_p99_max": ms}


def _ask(user: ChatClient) -> Callable[[], None]:
    """Sends one message over and over: a repeated id gets its `ack` again, and makes no reply."""

    def ask() -> None:
        user.send("still there?", "m1")
        user.until("ack", id="m1")

    return ask


def _probe(url: str) -> Callable[[], None]:
    def probe() -> None:
        requests.get(f"{url}/healthz", timeout=60).raise_for_status()

    return probe


def _lives(user: ChatClient) -> bool:
    try:
        user.ws.settimeout(10)
        user.send("and now?", "m2")
        user.until("ack", id="m2")
    except (OSError, Closed):
        return False
    except Exception as error:
        # websocket-client's own errors of a lost connection.
        if type(error).__module__.startswith("websocket"):
            return False
        raise
    return True


def _pids(pid: int) -> list[int]:
    return sorted(process.pid for process in psutil.Process(pid).children(recursive=True))


def _attack(case: Case, attack: Attack, seconds: float, result: Connection) -> None:
    result.send(case(attack, time.monotonic() + seconds))


def _in_threads(count: int, work: Callable[[int], int]) -> int:
    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(work(n))) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(results)


def _flood(attack: Attack, until: float, data: bytes, head: bytes = b"") -> int:
    """Sends `data` over and over and reads the answers; how many bytes. A closed connection is opened again."""
    sent = 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError), attack.connect() as sock:
            sock.sendall(head)
            reader = threading.Thread(target=_drain, args=(sock,))
            reader.start()
            try:
                while time.monotonic() < until:
                    sock.sendall(data)
                    sent += len(data)
            finally:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                reader.join()
    return sent


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 20):
            continue


def _frames(attack: Attack, until: float, burst: bytes, *, stay: bool = False) -> int:
    """Connects and sends `burst`, again and again on the same socket or on new ones; how many bytes."""
    sent = 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError), attack.connect() as sock:
            sock.sendall(attack.handshake(X_Forwarded_For=_ADDRESS))
            sock.recv(4096)
            sock.settimeout(1)
            threading.Thread(target=_drain, args=(sock,), daemon=True).start()
            while time.monotonic() < until:
                sock.sendall(burst)
                sent += len(burst)
                if not stay:
                    break
    return sent
