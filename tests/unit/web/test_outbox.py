"""The outbox of a websocket: sending never blocks, frames stay whole, and slow clients are cut off."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from wsproto.frame_protocol import FrameProtocol

from chatbot.protocol.close_codes import SLOW_CLIENT
from chatbot.web.fanout import outbox as module
from chatbot.web.fanout.outbox import Outbox, close_frame, text_frame

Pair = tuple[Outbox, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """An outbox and the socket of its peer."""
    ours, theirs = socket.socketpair()
    outbox = Outbox(ours)
    theirs.settimeout(10)
    yield outbox, theirs
    outbox.abort()
    ours.close()
    theirs.close()


def read_all(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(OSError):
        while chunk := sock.recv(65536):
            data += chunk
    return data


def received(outbox: Outbox, theirs: socket.socket) -> bytes:
    """Everything that the peer receives once it reads."""
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(read_all(theirs)))
    reader.start()
    assert outbox.wait_until_below(1, timeout=10)
    outbox.abort()
    reader.join()
    return found[0]


def test_sending_does_not_block_and_keeps_the_order(pair: Pair) -> None:
    outbox, theirs = pair
    began = time.monotonic()
    for _ in range(8):
        outbox.send(b"x" * 100_000)
    assert time.monotonic() - began < 10
    assert received(outbox, theirs) == b"x" * 800_000


def test_a_client_that_does_not_read_gets_1013_after_the_frame_under_way(pair: Pair) -> None:
    outbox, theirs = pair
    slow = threading.Event()
    outbox.on_slow = slow.set
    frame = text_frame("y" * 100_000)
    for _ in range(50):
        outbox.send(frame)
    assert slow.is_set()
    assert outbox.slow
    assert outbox.queued < module.MAX_QUEUED
    data = received(outbox, theirs)
    end = close_frame(SLOW_CLIENT)
    assert data.endswith(end)
    whole, rest = divmod(len(data) - len(end), len(frame))
    assert rest == 0
    assert data == frame * whole + end


def test_the_last_bytes_for_a_slow_client_are_of_its_own_protocol() -> None:
    ours, theirs = socket.socketpair()
    outbox = Outbox(ours, farewell=b"event: close")
    outbox.send(b"y" * 5_000_000)
    assert outbox.slow
    assert received(outbox, theirs).endswith(b"yevent: close")
    ours.close()
    theirs.close()


def test_a_client_that_takes_nothing_for_too_long_is_cut_off(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_DEADLINE", 0.2)
    outbox, _ = pair
    slow = threading.Event()
    outbox.on_slow = slow.set
    outbox.send(b"z" * 900_000)
    assert slow.wait(30)
    with pytest.raises(BrokenPipeError):
        outbox.send(b"more")


def test_a_client_that_disconnects_is_not_slow(pair: Pair) -> None:
    outbox, theirs = pair
    slow = threading.Event()
    outbox.on_slow = slow.set
    outbox.send(b"z" * 900_000)
    theirs.close()
    assert not outbox.wait_until_below(1, timeout=10)
    assert outbox.closed
    assert not slow.is_set()


def test_an_aborted_outbox_raises_on_send(pair: Pair) -> None:
    outbox, _ = pair
    outbox.abort()
    with pytest.raises(BrokenPipeError):
        outbox.send(b"x")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_a_text_frame_is_what_wsproto_encodes(size: int) -> None:
    for text in ("x" * size, "é" * (size // 2)):
        assert text_frame(text) == bytes(FrameProtocol(client=False, extensions=[]).send_data(text))
