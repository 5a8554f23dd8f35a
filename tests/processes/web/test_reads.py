"""Reading histories over HTTP and in replays, against real processes."""

from __future__ import annotations

import json
import socket

import pytest
import requests

from bench.meter import memory
from chatbot.sessions.ids import reply_id, session_id
from devtools.harness.chat_client import ChatClient, history, new_session
from devtools.harness.deployment import Deployment, eventually
from devtools.harness.histories import store_turns
from tests.support.rounds import within


def long_session(chat: Deployment, turns: int, size: int = 10) -> str:
    """The token of a new session with that many turns, whose texts have `size` characters."""
    token = str(new_session(chat.url())["token"])
    store_turns(chat.client, session_id(token), [("q" * size, "a" * size)] * turns, 3600)
    return token


def read(chat: Deployment, token: str, **query: str) -> requests.Response:
    return requests.get(chat.url() + "/refresh_token", params={"token": token, **query}, timeout=30)


def test_a_history_is_read_page_by_page(chat: Deployment) -> None:
    token = long_session(chat, 250)
    newest = read(chat, token).json()
    assert set(newest) == {"token", "name", "messages", "session_start", "more", "before", "leaf"}
    assert (len(newest["messages"]), newest["more"], newest["before"]) == (200, True, newest["messages"][0]["id"])
    older = read(chat, token, before=newest["before"], limit="3").json()
    ids = [message["id"] for message in history(chat.url(), token)]
    assert len(ids) == 500
    assert [message["id"] for message in older["messages"]] == ids[297:300]
    first = read(chat, token, before=ids[1]).json()
    assert ([m["id"] for m in first["messages"]], first["more"], first["before"]) == (ids[:1], False, None)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"before": "unknown"}, "unknown_message"),
        ({"before": ""}, "unknown_message"),
        ({"before": "x" * 3000}, "unknown_message"),
        ({"limit": "0"}, "invalid_limit"),
        ({"limit": "201"}, "invalid_limit"),
        ({"limit": "many"}, "invalid_limit"),
    ],
)
def test_a_page_that_does_not_exist_is_refused(chat: Deployment, query: dict[str, str], code: str) -> None:
    answer = read(chat, new_session(chat.url())["token"], **query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_replay_of_more_than_a_page_is_left_to_the_client(chat: Deployment) -> None:
    token = long_session(chat, 250)
    with ChatClient(chat.url(), token, after="old100") as client:
        assert client.receive()["recovered"] is False
        assert client.ask("and now?")["source"] == "bot"
        assert {frame["type"] for frame in client.frames} <= {"session", "ack", "delta", "message"}
        assert len(client.of_type("message")) == 1
    with ChatClient(chat.url(), token, after=reply_id(session_id(token), "old240")) as client:
        assert client.receive()["recovered"] is True
        assert [client.receive()["id"] for _ in range(2)] == ["old241", reply_id(session_id(token), "old241")]


@pytest.mark.alone
def test_clients_that_hang_up_or_never_read_cost_little(chat: Deployment) -> None:
    token = long_session(chat, 600, 8000)
    port = int(chat.webs[0].env["PORT"])
    request = f"GET /refresh_token?token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    logged = len(chat.webs[0].log)
    before = memory([chat.webs[0].pid])
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(request)
    with ChatClient(chat.url()) as other:
        other.receive()
        within(2, lambda: other.ask("is anybody served?"))
    silent = [never_reading(port, f"/chat?token={token}&after=old585") for _ in range(16)]
    try:
        eventually(lambda: attached(chat) >= 16, what="the sockets are attached")
        assert memory([chat.webs[0].pid]) - before < 16 * 1024 * 1024
    finally:
        for sock in silent:
            sock.close()
    assert json.loads(read(chat, token).text)["more"] is True
    assert not chat.webs[0].traceback(logged)


def never_reading(port: int, path: str) -> socket.socket:
    """A websocket whose client has sent its handshake and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{head}{'A' * 22}==\r\n\r\n".encode())
    return sock


def attached(chat: Deployment) -> float:
    text = requests.get(chat.url() + "/metrics", timeout=30).text
    line = next(line for line in text.splitlines() if line.startswith("chatbot_web_sockets "))
    return float(line.split()[1])
