"""The bytes beneath a websocket: whole frames for slow readers, and an end for those that are too slow."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from chatbot.web import outbox as module
from chatbot.web.outbox import Transport, close_frame, text_frame
from devtools.harness.deployment import eventually, free_port
from devtools.paths import BIN, ROOT

FRAMES, FRAME_SIZE = 60, 200_000

#: A bare flask-sock app: one thread sends many large frames while the reader's thread answers pings.
BARE_APP = f"""
import os, json
from flask import Flask, request
from flask_sock import Sock
from chatbot.web import outbox as transport
transport.MAX_WAITING = 64 * 1024 * 1024
app = Flask(__name__)
sock = Sock(app)

@app.before_request
def wrap():
    if os.environ["WRAPPED"] == "yes":
        request.environ["gunicorn.socket"] = transport.Transport(request.environ["gunicorn.socket"])

@sock.route("/frames")
def frames(ws):
    for number in range({FRAMES}):
        ws.send(json.dumps({{"number": number, "fill": "x" * {FRAME_SIZE}}}))
    ws.receive(timeout=60)
"""


@contextlib.contextmanager
def bare_server(folder: Path, wrapped: str) -> Iterator[int]:
    (folder / "bare.py").write_text(BARE_APP)
    port = free_port()
    command = [str(BIN / "gunicorn"), "-k", "gevent", "-b", f"127.0.0.1:{port}", "-c", "/dev/null"]
    command += ["--no-control-socket", "--chdir", str(folder), "bare:app"]
    env = {"PATH": str(BIN), "PYTHONPATH": str(ROOT), "WRAPPED": wrapped}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(port), what="gunicorn listens")
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def read_slowly(port: int) -> int:
    """Frames that a slow reader, which pings the server, gets whole and in order."""
    ws = websocket.WebSocket()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    ws.connect(f"ws://127.0.0.1:{port}/frames", socket=sock)
    whole = 0
    try:
        for number in range(FRAMES):
            # Behind the sender by design: its buffers are full most of the time.
            threading.Event().wait(0.005)
            ws.ping("still there?")
            frame = json.loads(ws.recv())
            assert frame == {"number": number, "fill": "x" * FRAME_SIZE}
            whole += 1
    except (websocket.WebSocketException, ValueError, AssertionError, OSError):
        return whole
    finally:
        sock.close()
    return whole


def test_a_slow_reader_gets_every_large_frame_whole(tmp_path: Path) -> None:
    with bare_server(tmp_path, "yes") as port:
        assert read_slowly(port) == FRAMES


def test_without_the_transport_the_stream_is_torn(tmp_path: Path) -> None:
    # The reason for the transport: should this begin to fail, flask-sock has learnt it and the transport may go.
    with bare_server(tmp_path, "no") as port:
        assert read_slowly(port) < FRAMES


@pytest.fixture
def pair() -> Iterator[tuple[Transport, socket.socket]]:
    ours, theirs = socket.socketpair()
    transport = Transport(ours)
    theirs.settimeout(10)
    yield transport, theirs
    transport.abort()
    ours.close()
    theirs.close()


def _read_all(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while chunk := sock.recv(65536):
            data += chunk
    return data


def _all_that_waits(transport: Transport, theirs: socket.socket) -> bytes:
    """What the peer gets once it reads."""
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(_read_all(theirs)))
    reader.start()
    assert transport.wait_until_below(1, timeout=10)
    transport.abort()
    reader.join()
    return received[0]


def test_sending_never_waits_for_the_peer(pair: tuple[Transport, socket.socket]) -> None:
    transport, theirs = pair
    began = time.monotonic()
    for _ in range(8):
        transport.send(b"x" * 100_000)
    assert time.monotonic() - began < 1
    received = _all_that_waits(transport, theirs)
    assert received == b"x" * 800_000


def test_a_client_that_reads_nothing_is_told_1013_behind_the_frame_under_way(
    pair: tuple[Transport, socket.socket],
) -> None:
    transport, theirs = pair
    told = threading.Event()
    transport.on_slow = told.set
    frame = text_frame("y" * 100_000)
    for _ in range(50):
        transport.send(frame)
    assert told.is_set()
    assert transport.slow
    assert transport.waiting < module.MAX_WAITING
    received = _all_that_waits(transport, theirs)
    end = close_frame(1013, "This client reads too slowly")
    assert received.endswith(end)
    whole, rest = divmod(len(received) - len(end), len(frame))
    assert rest == 0
    assert received == frame * whole + end


def test_a_client_that_takes_nothing_for_too_long_is_cut_off(
    pair: tuple[Transport, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEND_DEADLINE", 0.2)
    transport, _ = pair
    told = threading.Event()
    transport.on_slow = told.set
    transport.send(b"z" * 900_000)
    assert told.wait(10)
    with pytest.raises(BrokenPipeError):
        transport.send(b"more")


def test_a_closed_transport_refuses_to_send(pair: tuple[Transport, socket.socket]) -> None:
    transport, _ = pair
    transport.abort()
    with pytest.raises(BrokenPipeError):
        transport.send(b"x")
