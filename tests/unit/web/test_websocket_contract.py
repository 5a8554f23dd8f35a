"""What `WebSocket` relies on inside flask-sock, simple-websocket, gunicorn and gevent, one test for each detail.

A test that fails after an upgrade names the detail that has moved.
"""

from __future__ import annotations

import inspect
import socket
import threading
from collections.abc import Iterator
from typing import Any

import flask_sock
import gevent.socket
import pytest
import simple_websocket
from flask import Flask
from gunicorn.http import parser, unreader, wsgi
from simple_websocket.ws import Base
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import BytesMessage, TextMessage

from chatbot.protocol.close_codes import EXPIRED
from chatbot.web.transports import websocket
from chatbot.web.transports.websocket import WebSocket, create_sock
from devtools.harness.deployment import eventually

HANDSHAKE = {
    "HTTP_HOST": "chat.example",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}
COMPRESSION = {"HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate"}
#: A text frame "hi" of a client, with an all-zero mask.
TEXT = b"\x81\x82\0\0\0\0hi"


class Peer:
    """The client's end of a socket pair whose other end is the server's."""

    def __init__(self) -> None:
        self.server, self.client = socket.socketpair()
        self.client.settimeout(10)

    def environ(self, key: str = "gunicorn.socket", **more: Any) -> dict[str, Any]:
        return {**HANDSHAKE, key: self.server, **more}

    def answer(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.client.recv(1)
        return data


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    yield found
    found.client.close()
    found.server.close()


@pytest.fixture
def ws(peer: Peer) -> Iterator[WebSocket]:
    found = WebSocket(peer.environ())
    assert peer.answer().startswith(b"HTTP/1.1 101")
    yield found
    peer.client.close()
    found.dispose()


def test_flask_sock_creates_sockets_by_the_name_Server_of_its_module(peer: Peer) -> None:
    made: list[Any] = []
    sock = create_sock()
    app = Flask("x")

    @sock.route("/chat")  # type: ignore[untyped-decorator]
    def chat(ws: Any) -> None:
        made.append(ws)

    sock.init_app(app)
    peer.client.sendall(TEXT)
    with app.test_request_context("/chat", environ_overrides=peer.environ()):
        app.dispatch_request()
    assert flask_sock.Server is WebSocket
    assert type(made[0]) is WebSocket


def test_flask_sock_passes_SOCK_SERVER_OPTIONS_as_keywords(peer: Peer) -> None:
    made: list[Any] = []
    sock = create_sock()
    app = Flask("x")
    app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 7, "max_message_size": 5}
    sock.route("/chat")(made.append)
    sock.init_app(app)
    with app.test_request_context("/chat", environ_overrides=peer.environ()):
        app.dispatch_request()
    assert (made[0].ping_interval, made[0].max_message_size) == (7, 5)


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_simple_websocket_takes_the_socket_from_environ(peer: Peer, key: str) -> None:
    environ = peer.environ(key)
    ws = WebSocket(environ)
    assert ws.sock is environ[key]
    assert isinstance(ws.sock, websocket._Stream)
    peer.client.close()
    ws.dispose()


def test_simple_websocket_calls_fileno_send_recv_and_close_of_the_socket_and_nothing_else() -> None:
    calls = set(inspect.getsource(Base).split("self.sock.")[1:])
    names = {call.partition("(")[0] for call in calls}
    assert names == {"send", "recv", "close"}
    # Its selector calls `fileno`.
    assert "sel.register(self.sock" in inspect.getsource(Base)


def test_simple_websocket_accepts_compression_by_the_header_that_is_removed(peer: Peer) -> None:
    other = Peer()
    simple_websocket.Server(other.environ(**COMPRESSION))
    assert b"permessage-deflate" in other.answer()
    other.client.close()
    ws = WebSocket(peer.environ(**COMPRESSION))
    assert b"permessage-deflate" not in peer.answer()
    peer.client.close()
    ws.dispose()


def test_simple_websocket_calls_handshake_before_it_starts_its_thread(peer: Peer) -> None:
    calls: list[str] = []

    class Recorder(simple_websocket.Server):  # type: ignore[misc]
        def handshake(self) -> None:
            super().handshake()
            calls.append("handshake")

    class Thread:
        def __init__(self, target: Any) -> None:
            self.name = "made by thread_class"

        def start(self) -> None:
            calls.append("start")

    Recorder(peer.environ(), thread_class=Thread)
    assert calls == ["handshake", "start"]


def test_wsproto_has_the_connection_without_the_handshake_as_connection(ws: WebSocket) -> None:
    assert isinstance(ws.ws.connection, Connection)
    whole = set(dir(WSConnection(ConnectionType.SERVER)))
    used = {"send", "receive_data", "events"}
    assert used <= whole & set(dir(Connection))
    assert ws.ws.send(TextMessage("hi")) == b"\x81\x02hi"
    assert ws.ws.send(BytesMessage(b"hi")) == b"\x82\x02hi"


def test_simple_websocket_buffers_frames_in_one_list_named_input_buffer(ws: WebSocket, peer: Peer) -> None:
    peer.client.sendall(TEXT)
    assert ws.receive(timeout=10) == "hi"
    peer.client.sendall(TEXT)
    while not ws.input_buffer:
        assert ws.event.wait(30)
    assert ws.sock.buffered is ws.input_buffer


def test_simple_websocket_wakes_receive_by_event(ws: WebSocket) -> None:
    received: list[Any] = []

    def receive() -> None:
        try:
            received.append(ws.receive(timeout=10))
        except simple_websocket.ConnectionClosed as closed:
            received.append(closed)

    thread = threading.Thread(target=receive)
    thread.start()
    ws.end(EXPIRED)
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(received[0], simple_websocket.ConnectionClosed)


def test_simple_websocket_closes_the_socket_at_the_end_of_its_thread(ws: WebSocket, peer: Peer) -> None:
    finished = ws.sock.finished
    peer.client.close()
    assert finished.wait(30)
    with pytest.raises(simple_websocket.ConnectionClosed):
        ws.receive(timeout=10)


def test_simple_websocket_needs_sock_ws_thread_and_environ_no_longer_after_that(peer: Peer) -> None:
    ws = WebSocket(peer.environ())
    assert ws.sock is not None
    assert ws.ws is not None
    assert ws.thread is not None
    assert ws.environ is not None
    peer.client.close()
    ws.dispose()
    assert (ws.sock, ws.ws, ws.thread, ws.environ) == (None, None, None, None)
    ws.end(EXPIRED)
    with pytest.raises(simple_websocket.ConnectionClosed):
        ws.close()
    assert ws.mode == "gunicorn"


def test_gunicorn_puts_its_socket_and_early_hints_into_environ() -> None:
    assert '"gunicorn.socket": sock' in inspect.getsource(wsgi.default_environ)
    assert "environ['wsgi.early_hints']" in inspect.getsource(wsgi.create)


def test_gevent_has_the_plain_socket_as_sock() -> None:
    with gevent.socket.socket() as sock:
        assert sock._sock.fileno() == sock.fileno()
        assert not isinstance(sock._sock, gevent.socket.socket)


def test_gunicorn_reads_from_a_connection_by_chunk_of_its_unreader_and_drains_bodies_by_finish_body() -> None:
    # gunicorn/worker.py replaces both.
    # gunicorn's own text: another test may have loaded gunicorn/worker.py in this process.
    chunk = inspect.getsource(unreader).partition("class SocketUnreader")[2].partition("def chunk(")[2]
    assert chunk.startswith("self, size_hint")
    assert "self.sock.recv(" in chunk
    assert "self.finish_body()" in inspect.getsource(parser.Parser.__next__)
    finish_body = inspect.getsource(parser).partition("def finish_body(")[2]
    assert "max_bytes" in finish_body.partition(")")[0]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x88\x82\0\0\0\0\x0f\xa0", 4000),
        (b"\x88\x80\0\0\0\0", 1005),
        (b"\x81\xfe\0\x80\0\0\0\0" + b"x" * 128, 1009),
        (b"", 1006),
    ],
)
def test_the_code_of_a_close_frame_is_stored(peer: Peer, frame: bytes, code: int) -> None:
    ws = WebSocket(peer.environ(), max_message_size=100)
    peer.answer()
    if frame:
        peer.client.sendall(frame)
    else:
        peer.client.close()
    eventually(lambda: not ws.connected)
    assert ws.close_code == code


def test_the_code_of_the_servers_own_close_frame_is_stored(peer: Peer) -> None:
    ws = WebSocket(peer.environ())
    peer.answer()
    ws.end(EXPIRED)
    assert ws.close_code == 1008
