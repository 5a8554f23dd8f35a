"""`WebSocket` in a real gunicorn with gevent: whole frames for slow readers, and closed sockets are freed at once."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from wsproto.utilities import RemoteProtocolError

from chatbot.web.transports.websocket import WebSocket
from devtools.harness.deployment import eventually
from devtools.harness.ports import free_port
from devtools.paths import BIN, ROOT

FRAMES, FRAME_SIZE = 60, 200_000
SOCKETS = 50

#: A flask-sock app. `/frames` sends many large frames while the reader's thread answers pings; `/idle` waits for the
#: end; `/alive` counts objects that belong to websockets.
APP = f"""
import gc, json, os
gc.disable()
from flask import Flask
from flask_sock import Sock
from chatbot.web.fanout import outbox
from chatbot.web.transports import websocket
outbox.MAX_QUEUED = 64 * 1024 * 1024
ours = os.environ["OURS"] == "yes"
app = Flask(__name__)
sock = websocket.create_sock() if ours else Sock()

@sock.route("/frames")
def frames(ws):
    for number in range({FRAMES}):
        ws.send(json.dumps({{"number": number, "fill": "x" * {FRAME_SIZE}}}))
    ws.receive(timeout=60)

@sock.route("/idle")
def idle(ws):
    try:
        while True:
            ws.receive()
    finally:
        if ours:
            ws.dispose()

@app.route("/alive")
def alive():
    kinds = ("_Stream", "Outbox", "_ReaderThread", "Connection")
    return str(sum(type(found).__name__ in kinds for found in gc.get_objects()))

sock.init_app(app)
"""


@pytest.fixture(params=["yes"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The port of a server; with the parameter "no", of flask-sock without this project's class."""
    with run_server(tmp_path, request.param) as port:
        yield port


@contextlib.contextmanager
def run_server(folder: Path, ours: str) -> Iterator[int]:
    (folder / "bare.py").write_text(APP)
    port = free_port()
    command = [str(BIN / "gunicorn"), "-k", "gevent", "-b", f"127.0.0.1:{port}", "-c", "/dev/null"]
    command += ["--no-control-socket", "--chdir", str(folder), "bare:app"]
    env = {"PATH": str(BIN), "PYTHONPATH": str(ROOT), "OURS": ours}
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
    """How many frames a slow reader, which pings the server, gets whole and in order."""
    ws = websocket.WebSocket()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    ws.connect(f"ws://127.0.0.1:{port}/frames", socket=sock)
    whole = 0
    try:
        for number in range(FRAMES):
            # Slower than the sender by design: its buffers are full most of the time.
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


def test_a_slow_reader_gets_every_large_frame_whole(server: int) -> None:
    assert read_slowly(server) == FRAMES


@pytest.mark.parametrize("server", ["no"], indirect=True)
def test_flask_sock_alone_tears_the_stream(server: int) -> None:
    # The reason for the outbox. If this fails after an upgrade, flask-sock sends whole frames and the outbox may go.
    assert read_slowly(server) < FRAMES


def objects(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/alive", timeout=10) as answer:
        return int(answer.read())


@pytest.mark.parametrize("cut", [False, True], ids=["close frame", "cut"])
def test_a_closed_socket_is_freed_without_the_garbage_collector(server: int, cut: bool) -> None:
    before = objects(server)
    clients = [websocket.create_connection(f"ws://127.0.0.1:{server}/idle", timeout=10) for _ in range(SOCKETS)]
    assert objects(server) >= before + 4 * SOCKETS
    for client in clients:
        if cut:
            client.shutdown()
        else:
            client.close()
    eventually(lambda: objects(server) == before, what="nothing of the sockets is left")


def test_a_handshake_with_a_header_that_is_not_ascii_is_refused() -> None:
    ours, theirs = socket.socketpair()
    fields = {"HOST": "x", "CONNECTION": "Upgrade", "UPGRADE": "websocket", "SEC_WEBSOCKET_VERSION": "13"}
    environ = {f"HTTP_{name}": value for name, value in fields.items()}
    more = {"HTTP_SEC_WEBSOCKET_KEY": "x" * 22 + "==", "HTTP_SEC_WEBSOCKET_PROTOCOL": "caf\xe9"}
    with ours, theirs, pytest.raises(RemoteProtocolError):
        WebSocket({**environ, **more, "werkzeug.socket": ours})
