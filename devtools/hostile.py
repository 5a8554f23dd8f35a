"""Requests and frames that no honest client sends, by the thousand: `python -m tests.hostile` tells what they do.

Afterwards the same processes must serve as before, with as much memory and as many open files, and neither they nor
their answers may hold a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment, eventually

#: Seconds to wait for an answer: some cases get none.
_PATIENCE = 0.5
#: Attackers at the same time.
_THREADS = 8

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


@dataclass
class Attack:
    """One server under attack, and what it answered."""

    port: int
    token: str
    answers: Counter[str] = field(default_factory=Counter)
    tracebacks: list[bytes] = field(default_factory=list)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def exchange(self, data: bytes, *, patience: float = _PATIENCE, reset: bool = False) -> None:
        """Sends `data` on a connection of its own and reads what comes."""
        with self.connect() as sock:
            with contextlib.suppress(OSError):
                sock.sendall(data)
            self.read(sock, patience)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def read(self, sock: socket.socket, patience: float = _PATIENCE) -> bytes:
        answer = b""
        sock.settimeout(patience)
        with contextlib.suppress(OSError):
            while len(answer) < 100_000 and (chunk := sock.recv(65536)):
                answer += chunk
                if b"\r\n\r\n" in answer and b"101 Switching" not in answer[:40]:
                    head, _, body = answer.partition(b"\r\n\r\n")
                    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                    if length.isdigit() and len(body) >= int(length):
                        break
        self.answers[answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/") else "nothing"] += 1
        if b"Traceback" in answer or b'File "/' in answer:
            self.tracebacks.append(answer[-2000:])
        return answer

    def websocket(self, frames: bytes, *, reset: bool = False) -> None:
        """A proper handshake, then `frames`."""
        with self.connect() as sock:
            sock.sendall(self.handshake())
            with contextlib.suppress(OSError):
                sock.sendall(frames)
            self.read(sock, 0.05)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def handshake(self, **headers: str) -> bytes:
        fields = {
            "Host": f"127.0.0.1:{self.port}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": _KEY,
            "Sec-WebSocket-Version": "13",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"GET /chat?token={self.token} HTTP/1.1\r\n{lines}\r\n".encode()


def frame(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """A websocket frame, right or wrong."""
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def _request(path: str, body: bytes, **headers: str) -> bytes:
    fields = {"Host": "x", "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def random_bytes(attack: Attack, dice: random.Random) -> None:
    attack.exchange(dice.randbytes(dice.randint(1, 3000)) + b"\r\n\r\n", patience=0.05)


def torn_request(attack: Attack, dice: random.Random) -> None:
    data = bytearray(_request("/token", b'{"name": "Ada"}', Content_Type="application/json"))
    for _ in range(dice.randint(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    attack.exchange(bytes(data), patience=0.05, reset=dice.random() < 0.3)


def torn_handshake(attack: Attack, dice: random.Random) -> None:
    data = bytearray(attack.handshake())
    for _ in range(dice.randint(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    attack.exchange(bytes(data[: dice.randint(1, len(data))] if dice.random() < 0.3 else data), patience=0.05)


def odd_handshake(attack: Attack, dice: random.Random) -> None:
    odd: list[dict[str, str]] = [
        {"Sec_WebSocket_Version": "8"},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "x" * 3000},
        {"Upgrade": "h2c"},
        {"Origin": "null"},
        {"Origin": "http://" + "e" * 2000},
        {"Origin": "http://[::"},
        {"Host": "[::"},
        {"Host": "a b"},
        {"Content_Length": "5"},
        {"Transfer_Encoding": "chunked"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; " * 50},
        {"Sec_WebSocket_Protocol": "\x01"},
        {"Authorization": "Bearer " + "\xff" * 100},
        {"X_Forwarded_For": "'; DROP TABLE", "X_Forwarded_Proto": "javascript", "X_Forwarded_Host": "evil/.."},
    ]
    attack.exchange(attack.handshake(**dice.choice(odd)), patience=0.05)


def odd_name(attack: Attack, dice: random.Random) -> None:
    json_type = "application/json"
    bodies: list[tuple[bytes, str]] = [
        (b'{"name": "' + b"x" * 10_000 + b'"}', json_type),
        (b"[" * 15_000, json_type),
        (b'{"name": ' * 1500 + b"1" + b"}" * 1500, json_type),
        (json.dumps({"name": chr(dice.randrange(32))}).encode(), json_type),
        (b'{"name": "\\u0000"}', json_type),
        (b'{"name": "\\udfff"}', json_type),
        (b'{"name": "' + dice.randbytes(20) + b'"}', json_type),
        (b'{"name": 1e999}', json_type),
        (b'{"name": ' + b"9" * 5000 + b"}", json_type),
        (b'{"name": {"$gt": ""}}', json_type),
        (b"name=" + dice.randbytes(50), "application/x-www-form-urlencoded"),
        (b"name=%ff%00%" * 100, "application/x-www-form-urlencoded"),
        (b"--x\r\n" * 2000, "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=name\r\n\r\n", "multipart/form-data; boundary=" + "x" * 70),
        (dice.randbytes(2000), dice.choice(["", "text/plain; charset=utf-99", "application/json; charset=\xfe"])),
        (b"x" * 200_000, json_type),
    ]
    body, kind = dice.choice(bodies)
    attack.exchange(_request("/token", body, Content_Type=kind))


def odd_address(attack: Attack, dice: random.Random) -> None:
    paths = [
        "/" + "a" * 6000,
        "/refresh_token?token=" + "%ff" * 500,
        "/refresh_token?token=" + "t" * 3000,
        "/refresh_token?" + "&".join(f"a{n}=b" for n in range(800)),
        "/static/../../etc/passwd",
        "/static/%2e%2e/%2e%2e/wsgi.py",
        "/\x00",
        "//evil.example/",
        "/chat/../token",
        "http://[::/",
        "*",
    ]
    method = dice.choice(["GET", "PUT", "TRACE", "CONNECT", "OPTIONS", "X" * 50, "get"])
    headers = "".join(f"X-{n}: {n}\r\n" for n in range(dice.choice([0, 0, 150]))) + "X: " + "y" * dice.choice([0, 9000])
    attack.exchange(f"{method} {dice.choice(paths)} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode(), patience=0.1)


def odd_body(attack: Attack, dice: random.Random) -> None:
    chunked = "POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    bodies = [
        b"zz\r\nname=Ada\r\n0\r\n\r\n",
        b"5;" + b"x" * 5000 + b"\r\nname=\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"ffffffffffffffff\r\nname",
        b"5\r\nname=XX0\r\n\r\n",
    ]
    attack.exchange(chunked.encode() + dice.choice(bodies), patience=0.05, reset=dice.random() < 0.3)


def bad_frame(attack: Attack, dice: random.Random) -> None:
    frames = [
        frame(_TEXT, b"hello", reserved=dice.randint(1, 7)),
        frame(dice.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]), b"x"),
        frame(_TEXT, b"not masked", masked=False),
        b"\x81\xff" + struct.pack("!Q", 2**63 + 5) + b"\0\0\0\0",
        b"\x81\xff" + struct.pack("!Q", 2**40) + b"\0\0\0\0" + b"x" * 1000,
        frame(_TEXT, b"x" * 70_000),
        frame(_PING, b"in pieces", fin=False),
        frame(_PING, b"x" * 126),
        frame(_CLOSE, b"\x03"),
        frame(_CLOSE, struct.pack("!H", dice.choice([0, 999, 1004, 1005, 1006, 1015, 5000, 65535]))),
        frame(_CLOSE, struct.pack("!H", 1000) + b"\xff\xfe"),
        frame(0, b"continues nothing"),
        frame(_TEXT, b"begun", fin=False) + frame(_TEXT, b"begun again"),
        frame(_TEXT, b"\xff\xfe\xfd"),
        frame(_TEXT, "\U0001f600".encode()[:3]),
        frame(_TEXT, b"", fin=False) + frame(0, b"", fin=False) * 200,
        frame(_PING, b"x" * 100) * 200,
        frame(_PONG, b"") * 300,
        dice.randbytes(dice.randint(1, 2000)),
        b"\x81\xfe\xff",
    ]
    attack.websocket(dice.choice(frames), reset=dice.random() < 0.3)


def odd_text(attack: Attack, dice: random.Random) -> None:
    """Many frames on one socket: this counts as one case all the same."""
    texts = [
        '{"a":' * 8000 + "1" + "}" * 8000,
        "[" * 30_000,
        json.dumps({"type": "message", "msg": "x", "id": dice.randbytes(40).hex()}),
        json.dumps({"type": "message", "msg": {"a": []}}),
        json.dumps({"type": ["message"], "msg": "x"}),
        json.dumps({"type": "retry", "id": "x" * 60_000}),
        json.dumps({"type": "\x00", "msg": "\x1b[2J"}),
        '{"type": "message", "msg": "\\ud800\\udbff"}',
        '{"type": "message", "type": "stop", "id": "\\u0000"}',
        '{"type": "message", "msg": "x", "id": "__proto__", "__proto__": {"a": 1}}',
        '{"type": "message", "msg": ' + "9" * 5000 + "}",
        '{"type": NaN}',
        "\u202e\u0000\u0007\ufeff",
        " " * 60_000,
        "",
    ]
    frames = b"".join(frame(_BINARY if dice.random() < 0.1 else _TEXT, dice.choice(texts).encode()) for _ in range(5))
    attack.websocket(frames, reset=dice.random() < 0.3)


CASES: tuple[Callable[[Attack, random.Random], None], ...] = (
    random_bytes,
    torn_request,
    torn_handshake,
    odd_handshake,
    odd_name,
    odd_address,
    odd_body,
    bad_frame,
    odd_text,
)


def run(attack: Attack, count: int, seed: int = 1) -> None:
    """`count` cases, from several attackers at once."""
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


def draw_out(attack: Attack, count: int) -> list[socket.socket]:
    """Connections that never come to the end of a head or a handshake, and one in fifty of a body."""
    heads = [b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", attack.handshake()[:-2], b""] * 16
    heads += [b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nname="] * 2
    sockets = []
    for number in range(count):
        sock = attack.connect()
        sock.sendall(heads[number % len(heads)])
        sockets.append(sock)
    return sockets


@dataclass(frozen=True)
class Footprint:
    """What the processes of a web server hold."""

    pids: tuple[int, ...]
    memory: int
    files: int

    @classmethod
    def of(cls, pid: int, redis_port: int) -> Footprint:
        """Without connections to Redis, of which a pool keeps as many as were once needed."""
        everyone = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return cls(
            tuple(sorted(process.pid for process in everyone)),
            sum(process.memory_info().rss for process in everyone),
            sum(
                process.num_fds() - sum(bool(c.raddr) and c.raddr.port == redis_port for c in process.net_connections())
                for process in everyone
            ),
        )


def polite(chat: Deployment, count: int = 20) -> None:
    for _ in range(count):
        with ChatClient(chat.url()) as client:
            client.ask("is all well?")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=500, help="connections that are drawn out at the same time")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with ModelServer(tokens=6) as model, Deployment(model.url) as chat:
        found = assault(chat, options.cases, options.slow, options.seed)
        print(json.dumps({"seed": options.seed, **found}, indent=2))
    return 0 if found["unharmed"] else 1


def assault(chat: Deployment, cases: int, slow: int, seed: int) -> dict[str, Any]:
    """Attacks the first web process and says what came of it."""
    web = chat.webs[0]
    attack = Attack(int(web.env["PORT"]), new_session(chat.url())["token"])
    # What is loaded at first use is no leak.
    polite(chat)
    run(attack, len(CASES) * 10, seed - 1)
    before = _settled(web.pid, chat.redis_port)
    drawn_out = draw_out(attack, slow)
    began = time.monotonic()
    run(attack, cases, seed)
    took = time.monotonic() - began
    left = [sock for sock in drawn_out if not _is_closed(sock, max(began + 45, time.monotonic() + 1))]
    for sock in drawn_out:
        sock.close()
    polite(chat)
    with contextlib.suppress(AssertionError):
        eventually(lambda: Footprint.of(web.pid, chat.redis_port).files <= before.files, 15)
        # Memory is tidied up now and then.
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
        "drawn_out": slow,
        "drawn_out_left_open": len(left),
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
    """The footprint once connections that have been closed are gone from it."""
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


if __name__ == "__main__":
    sys.exit(main())
