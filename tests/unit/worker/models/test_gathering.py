"""The sockets of replies that have begun, which a model loop reads at intervals."""

from __future__ import annotations

import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from chatbot.worker.models.call import Call
from chatbot.worker.models.event_loop import ModelLoop
from chatbot.worker.models.gathering import FEW, Gathering, interval
from chatbot.worker.prompts import PromptMessage
from chatbot.worker.report_pace import REPORT_INTERVAL
from devtools.fake_model import ModelServer
from devtools.harness.deployment import eventually
from tests.support.models import at

REPLIES = 20
_Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as found:
        yield found


@pytest.fixture
def pairs(selector: selectors.BaseSelector) -> Iterator[list[_Pair]]:
    """Connected sockets, the first of each pair watched by the selector, with something to read."""
    with ExitStack() as stack:
        found = [socket.socketpair() for _ in range(REPLIES)]
        for reader, writer in found:
            stack.enter_context(reader)
            stack.enter_context(writer)
            selector.register(reader, selectors.EVENT_READ)
            writer.send(b"x")
        yield found


def test_each_socket_is_read_once_in_an_interval(selector: selectors.BaseSelector, pairs: list[_Pair]) -> None:
    gathering = Gathering(selector)
    for reader, _ in pairs:
        gathering.add(reader.fileno())
    read: Counter[int] = Counter()
    most = 0
    now = 100.0
    # Up to the last moment of the interval.
    for _ in range(1000):
        turn = gathering.take_turn(now)
        read.update(turn)
        most = max(most, len(turn))
        now += interval(REPLIES) / 1001
    assert selector.select(0) == []
    assert read == {reader.fileno(): 1 for reader, _ in pairs}
    # They take turns.
    assert most < REPLIES / 4


def test_a_socket_that_is_read_at_once_again_is_the_selectors(
    selector: selectors.BaseSelector, pairs: list[_Pair]
) -> None:
    gathering = Gathering(selector)
    for reader, _ in pairs:
        gathering.add(reader.fileno())
    back, closed = pairs[0][0], pairs[1][0]
    gathering.remove(back.fileno())
    assert gathering.discard(closed.fileno())
    # A socket that it does not have stays as it is.
    gathering.remove(closed.fileno())
    assert [key.fileobj for key, _ in selector.select(0)] == [back.fileno()]
    assert len(gathering) == REPLIES - 2
    read = {fd for turn in range(100) for fd in gathering.take_turn(turn)}
    assert read == {reader.fileno() for reader, _ in pairs[2:]}


def test_the_interval_grows_with_the_replies_and_stays_below_that_of_reports_where_they_are_few() -> None:
    found = [interval(replies) for replies in range(3000)]
    assert found == sorted(found)
    assert found[FEW] < 0.001
    assert found[200] < REPORT_INTERVAL / 2
    assert REPORT_INTERVAL < found[-1] <= 0.1


def test_many_replies_that_have_begun_are_read_at_intervals_and_are_whole(model: ModelServer) -> None:
    model.control(tokens=30, hold=1)
    loop = ModelLoop(REPLIES)
    server = at(model.url, in_loop=False)
    texts: dict[int, str] = {}

    def read(number: int) -> None:
        call = Call(30)
        call.loop = loop
        for piece in server.generate([PromptMessage("user", f"number {number}")], call):
            texts[number] = texts.get(number, "") + piece.text
            if piece.finish_reason is None:
                call.wait_for_more()

    def run(number: int) -> None:
        loop.run(partial(read, number))
        # Again, on a connection that was read at intervals.
        loop.run(partial(read, number + REPLIES))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(REPLIES)]
    for thread in threads:
        thread.start()
    # Those that began before there were many are read at once.
    eventually(lambda: len(loop.gathering) >= REPLIES - FEW, what="the replies have begun")
    model.control(hold=None)
    for thread in threads:
        thread.join()
    assert len(loop.gathering) == 0
    assert all(f"number {number}" in texts[number] for number in range(2 * REPLIES))
