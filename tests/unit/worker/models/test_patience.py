"""How long a server may be silent: while it loads, and within a reply."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chatbot.config import ModelAddress, ModelSettings, Settings
from chatbot.worker.models import create_model
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled, ModelUnavailable, TransientModelError
from chatbot.worker.prompts import PromptMessage
from tests.support.byte_server import CHAT, COMPLETIONS, HF, ByteServer, Wire, byte_server, chunked, event, reply

WIRES = [pytest.param(wire, id=wire.api) for wire in (HF, COMPLETIONS, CHAT)]
HEAD = chunked(end=False)
#: Seconds.
SILENCE, LOADING = 0.2, 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[ByteServer]:
    with byte_server() as running:
        yield running


def say(connection: socket.socket, *parts: str) -> None:
    # At once: a pause in between would count as silence.
    connection.sendall("".join(f"{len(part.encode()):x}\r\n{part}\r\n" for part in parts).encode())


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("before", [b"", HEAD], ids=["before the head", "after the head"])
def test_the_first_token_may_take_as_long_as_loading(server: ByteServer, wire: Wire, before: bytes) -> None:
    hung_up = threading.Event()

    def load(connection: socket.socket) -> None:
        connection.sendall(before)
        connection.settimeout(SILENCE * 3)
        try:
            hung_up.set() if not connection.recv(1) else None
        except TimeoutError:
            connection.sendall(HEAD.removeprefix(before))
            say(connection, *wire.hello())
            connection.sendall(b"0\r\n\r\n")

    server.script(load)
    model = wire.model(server, read_timeout=SILENCE, loading_timeout=LOADING)
    assert reply(model).text == "Hello there."
    assert not hung_up.is_set()
    assert len(server.requests) == 1


@pytest.mark.parametrize("wire", WIRES)
def test_silence_within_a_reply_is_bounded_by_the_read_timeout(server: ByteServer, wire: Wire) -> None:
    def stall(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        say(connection, *wire.hello()[:2])
        connection.recv(1)

    server.script(stall)
    began = time.monotonic()
    with pytest.raises(TransientModelError, match="MODEL_READ_TIMEOUT") as caught:
        reply(wire.model(server, read_timeout=SILENCE, loading_timeout=LOADING))
    assert type(caught.value) is TransientModelError
    assert time.monotonic() - began < LOADING / 2


def never(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("wire", WIRES)
def test_a_server_that_never_says_anything_is_unavailable(server: ByteServer, wire: Wire) -> None:
    server.script(never)
    with pytest.raises(ModelUnavailable, match="no token within MODEL_LOADING_TIMEOUT"):
        reply(wire.model(server, read_timeout=SILENCE, loading_timeout=SILENCE * 2))


def test_a_silent_server_does_not_keep_a_call_from_another_one(server: ByteServer) -> None:
    addresses = tuple(ModelAddress(f"{server.url}/{n}", CHAT.api) for n in (1, 2))
    settings: dict[str, Any] = {"read_timeout": SILENCE, "loading_timeout": LOADING}
    model = create_model(Settings(model=ModelSettings(servers=addresses, **settings)))
    server.script(never, chunked(*CHAT.hello()))
    began = time.monotonic()
    assert reply(model).text == "Hello there."
    assert time.monotonic() - began < LOADING / 2


def test_the_deadline_counts_from_the_first_token(server: ByteServer) -> None:
    call = Call(5.0, loading_timeout=300.0)
    left = call.deadline - time.monotonic()
    assert 290 < left <= 300
    server.script(chunked(*CHAT.hello()))
    assert list(CHAT.model(server).generate([PromptMessage("user", "hello")], call))
    assert call.deadline - time.monotonic() <= 5


@pytest.mark.parametrize("wire", WIRES)
def test_a_call_is_cancelled_at_once_also_where_the_server_will_close_the_connection(
    server: ByteServer, wire: Wire
) -> None:
    begun = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        assert b"close" in HEAD
        say(connection, event(wire.delta("Hello")))
        begun.set()
        connection.recv(1)

    server.script(stall)
    call = Call(30)

    def cancel() -> None:
        begun.wait(30)
        call.cancel("stop")

    thread = threading.Thread(target=cancel)
    thread.start()
    began = time.monotonic()
    with pytest.raises(CallCancelled):
        list(wire.model(server, read_timeout=20.0).generate([PromptMessage("user", "hello")], call))
    assert time.monotonic() - began < 10
    thread.join()
