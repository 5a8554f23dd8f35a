"""The limit on sockets of one session, over several processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment, eventually


@pytest.fixture(scope="module")
def strict(model: ModelServer) -> Iterator[Deployment]:
    """Two web processes, and at most three sockets in a session."""
    with Deployment(model.url, webs=2, workers=0, max_sockets_per_session=3) as deployment:
        yield deployment


def attached(chat: Deployment, web: int, token: str) -> ChatClient:
    client = ChatClient(chat.url(web), token)
    assert client.receive()["type"] == "session"
    return client


def test_the_sockets_of_one_session_are_limited_over_all_processes(strict: Deployment) -> None:
    token = new_session(strict.url())["token"]
    first = attached(strict, 0, token)
    others = [attached(strict, 1, token) for _ in range(2)]
    refused = ChatClient(strict.url(0), token)
    closed = refused.closed()
    assert (closed.code, refused.frames) == (1013, [])
    # Open sockets stay open, and one that closes makes room for another, in any process.
    others[0].close()
    another = eventually(lambda: _admitted(strict, token), what="there is room for another")
    for client in (first, others[1], another):
        client.send_frame(type="dance")
        assert client.until("error")["code"] == "unknown_type"
        client.close()
    eventually(lambda: not list(strict.client.scan_iter("chat:*:sockets")), what="no socket is counted")


def test_the_sockets_of_a_dead_process_do_not_count(strict: Deployment) -> None:
    token = new_session(strict.url())["token"]
    lost = [attached(strict, 1, token) for _ in range(3)]
    assert ChatClient(strict.url(0), token).closed().code == 1013
    strict.webs[1].kill()
    try:
        clients = [eventually(lambda: _admitted(strict, token), what="room for one") for _ in range(3)]
        assert ChatClient(strict.url(0), token).closed().code == 1013
        for client in (*clients, *lost):
            client.cut()
    finally:
        strict.webs[1].start()
        eventually(lambda: strict.ready(1), 60, "the web process is back")


def _admitted(chat: Deployment, token: str) -> ChatClient | None:
    client = ChatClient(chat.url(0), token)
    opcode, _ = client.ws.recv_data()
    if opcode == 1:
        return client
    client.ws.shutdown()
    return None
