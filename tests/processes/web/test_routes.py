"""The HTTP routes of the wire contract, against real processes."""

import socket

import pytest
import requests

from chatbot.web.contracts.asyncapi import asyncapi
from chatbot.web.contracts.openapi import openapi
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment, eventually


@pytest.mark.parametrize(
    "request_arguments",
    [
        {"json": {"name": "Ada"}},
        {"data": {"name": "Ada"}},
        {"params": {"name": "Ada"}},
        {"data": '{"name": "Ada"}'},
    ],
    ids=["json", "form", "query", "json without a content type"],
)
def test_a_name_creates_a_session(chat: Deployment, request_arguments: dict[str, object]) -> None:
    response = requests.post(chat.url() + "/token", timeout=30, **request_arguments)  # type: ignore[arg-type]
    assert response.status_code == 200
    session = response.json()
    assert set(session) == {"token", "name", "messages", "session_start"}
    assert session["name"] == "Ada"
    assert session["messages"] == []
    assert session["session_start"].endswith("Z")
    assert len(session["token"]) >= 22


@pytest.mark.parametrize(
    "request_arguments",
    [
        {},
        {"json": {"name": ""}},
        {"json": {"name": " \t\n"}},
        {"json": {"name": None}},
        {"json": {"name": 5}},
        {"json": {"name": ["Ada"]}},
        {"json": ["Ada"]},
        {"json": {"name": "x" * 65}},
        {"json": {"name": "a\nb"}},
        {"json": {"name": "\u200b"}},
        {"json": {"name": "\u200d \u3164\ufe0f"}},
        {"data": '{"name": ', "headers": {"Content-Type": "application/json"}},
        {"data": b'{"name": "\xff"}', "headers": {"Content-Type": "application/json"}},
        {"data": '{"name": "\\ud800"}', "headers": {"Content-Type": "application/json"}},
        {"data": "[" * 9000, "headers": {"Content-Type": "application/json"}},
        {"params": {"name": "  "}},
        {"params": b"name=%ff%fe"},
        {"data": b"name=%ff%fe", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    ],
)
def test_an_invalid_name_is_refused(chat: Deployment, request_arguments: dict[str, object]) -> None:
    response = requests.post(chat.url() + "/token", timeout=30, **request_arguments)  # type: ignore[arg-type]
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_name"
    assert "Traceback" not in response.text


def test_a_name_of_64_characters_is_accepted(chat: Deployment) -> None:
    assert new_session(chat.url(), "é" * 64)["name"] == "é" * 64


def test_a_session_is_read_with_the_token_in_the_query_or_the_header(chat: Deployment) -> None:
    session = new_session(chat.url())
    in_query = requests.get(chat.url() + "/refresh_token", params={"token": session["token"]}, timeout=30)
    in_header = requests.get(
        chat.url(1) + "/refresh_token", headers={"Authorization": f"Bearer {session['token']}"}, timeout=30
    )
    assert in_query.json() == in_header.json() == {**session, "more": False, "before": None, "leaf": None}


@pytest.mark.parametrize("query", ["", "?token=", "?token=made-up", "?token=%ff%00"])
def test_an_unknown_token_is_refused(chat: Deployment, query: str) -> None:
    response = requests.get(chat.url() + "/refresh_token" + query, timeout=30)
    assert response.status_code == 400
    assert response.json() == {"error": {"code": "session_not_found", "message": "Session expired or does not exist"}}


def test_the_chat_page_is_served_with_a_strict_policy(chat: Deployment) -> None:
    response = requests.get(chat.url() + "/", timeout=30)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_health_and_readiness_are_reported(chat: Deployment) -> None:
    assert requests.get(chat.url() + "/healthz", timeout=30).status_code == 200
    ready = requests.get(chat.url() + "/readyz", timeout=30)
    assert ready.status_code == 200
    assert ready.json()["workers"] == 2


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/token", 405), ("GET", "/chat", 400)]
)
def test_every_http_error_is_json(chat: Deployment, method: str, path: str, status: int) -> None:
    response = requests.request(method, chat.url() + path, timeout=30)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"code", "message"}
    said = {
        "/chat": "is a websocket",
        "/token": "takes DELETE and POST",
        "/nothing": "There is nothing at this address",
    }
    assert said.get(path, "") in response.json()["error"]["message"]


def test_a_body_too_large_for_a_name_is_refused(chat: Deployment) -> None:
    response = requests.post(chat.url() + "/token", json={"name": "x" * 100_000}, timeout=30)
    assert response.status_code in (400, 413)
    assert "error" in response.json()


def test_a_malformed_request_leaves_no_token_in_the_log(chat: Deployment) -> None:
    token = new_session(chat.url())["token"]
    requests_sent = (
        f"GET /refresh_token?token={token}\x01 x y HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {token}\r\n\r\n",
    )
    port = int(chat.webs[0].env["PORT"])
    for text in requests_sent:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(text.encode())
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"bad_request"' in answer
        assert token.encode() not in answer
    eventually(lambda: chat.webs[0].log.count("malformed HTTP request") >= 2, what="the requests are logged")
    assert token not in chat.webs[0].log


def test_a_body_in_broken_chunks_is_a_bad_request(chat: Deployment) -> None:
    head = "POST /token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    logged = len(chat.webs[0].log)
    with socket.create_connection(("127.0.0.1", int(chat.webs[0].env["PORT"])), timeout=30) as sock:
        sock.sendall(f"{head}zz\r\nname=Ada\r\n0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"bad_request"' in answer
    assert not chat.webs[0].traceback(logged)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-WebSocket-Version": "13"}, {"Sec-WebSocket-Key": "x" * 24, "Sec-WebSocket-Version": "8"}],
)
def test_half_a_websocket_handshake_is_a_bad_request(chat: Deployment, headers: dict[str, str]) -> None:
    logged = len(chat.webs[0].log)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", **headers}
    response = requests.get(chat.url() + "/chat?token=x", headers=upgrade, timeout=30)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "bad_request"
    assert not chat.webs[0].traceback(logged)


def test_no_token_reaches_a_log_or_redis(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.until("session")
        client.ask("what is kept?")
        requests.get(chat.url() + "/refresh_token", params={"token": client.token}, timeout=30)
    for process in chat.processes:
        assert client.token not in process.log
    assert not [key for key in chat.client.scan_iter("*") if client.token in key]


def test_the_contracts_are_served_and_so_are_the_page_and_its_files(chat: Deployment) -> None:
    for path, document in (("openapi.json", openapi()), ("asyncapi.json", asyncapi())):
        assert requests.get(f"{chat.url()}/{path}", timeout=30).json() == document
    assert "text/html" in requests.get(f"{chat.url()}/c/1", timeout=30).headers["Content-Type"]
    assert "import" in requests.get(f"{chat.url()}/static/0/main.js", timeout=30).text
    assert requests.get(f"{chat.url()}/static/0/no-such-file.js", timeout=30).status_code == 404
