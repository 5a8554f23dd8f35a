"""Raw connections to a web process: HTTP requests, handshakes and websocket frames as bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

#: Seconds to wait for an answer: some cases get none.
_PATIENCE = 0.5
#: The same for a handshake, which is answered.
_HANDSHAKE = 30.0
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass
class Attack:
    """A server under attack, and a count of its answers."""

    port: int
    token: str
    answers: Counter[str] = field(default_factory=Counter)
    tracebacks: list[bytes] = field(default_factory=list)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def exchange(self, data: bytes, *, patience: float = _PATIENCE, reset: bool = False) -> None:
        """Sends `data` on a new connection and reads the answer."""
        with self.connect() as sock:
            with contextlib.suppress(OSError):
                sock.sendall(data)
            self.read(sock, patience)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def read(self, sock: socket.socket, patience: float = _PATIENCE, first: float = _PATIENCE) -> bytes:
        """Waits `first` seconds for an answer, and `patience` seconds for each further part of it."""
        answer = b""
        sock.settimeout(first)
        with contextlib.suppress(OSError):
            while len(answer) < 100_000 and (chunk := sock.recv(65536)):
                answer += chunk
                sock.settimeout(patience)
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
        """Sends a valid handshake, then `frames`."""
        with self.connect() as sock:
            sock.sendall(self.handshake())
            with contextlib.suppress(OSError):
                sock.sendall(frames)
            self.read(sock, 0.05, _HANDSHAKE)
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
    """A websocket frame, valid or not."""
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


def request(path: str, body: bytes, **headers: str) -> bytes:
    """A POST request."""
    fields = {"Host": "x", "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body
