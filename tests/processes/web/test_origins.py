"""Pages of other origins, and Host headers, against real processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import requests
import websocket

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment

ELSEWHERE = "https://evil.example"
FRIEND = "https://friend.example"


@pytest.fixture(scope="module")
def open_to_friend(model: ModelServer) -> Iterator[Deployment]:
    """Behind a proxy on this machine, and open to pages of `FRIEND`."""
    with Deployment(
        model.url, workers=0, allowed_origins=FRIEND, trusted_proxies="127.0.0.1", allowed_hosts="chat.example"
    ) as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/token"),
        ("POST", "/import"),
        ("GET", "/refresh_token"),
        ("OPTIONS", "/token"),
        ("GET", "/events"),
        ("GET", "/messages"),
        ("POST", "/messages"),
    ],
)
def test_a_page_of_another_origin_is_refused(chat: Deployment, method: str, path: str) -> None:
    answer = requests.request(
        method, chat.url() + path, params={"name": "Ada"}, headers={"Origin": ELSEWHERE}, timeout=30
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_of_an_allowed_origin_may_use_the_chat(open_to_friend: Deployment) -> None:
    url = open_to_friend.url()
    for method, path in (("POST", "/token"), ("GET", "/refresh_token"), ("POST", "/messages"), ("GET", "/events")):
        preflight = requests.options(
            url + path, headers={"Origin": FRIEND, "Access-Control-Request-Method": method}, timeout=30
        )
        assert preflight.status_code == 204
        assert method in preflight.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        assert preflight.headers["Access-Control-Allow-Origin"] == FRIEND
    answer = requests.post(url + "/token", json={"name": "Ada"}, headers={"Origin": FRIEND}, timeout=30)
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]
    # An error may be read too.
    assert (
        "Access-Control-Allow-Origin"
        in requests.get(url + "/refresh_token", headers={"Origin": FRIEND}, timeout=30).headers
    )
    with ChatClient(url, answer.json()["token"], origin=FRIEND) as client:
        assert client.receive()["type"] == "session"
    # The page may import the client, too.
    leads = requests.get(url + "/static/client.js", headers={"Origin": FRIEND}, allow_redirects=False, timeout=30)
    assert (leads.status_code, leads.headers["Access-Control-Allow-Origin"]) == (302, FRIEND)
    client_code = requests.get(url + "/static/client.js", headers={"Origin": FRIEND}, timeout=30)
    assert client_code.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "immutable" in client_code.headers["Cache-Control"]
    stranger = requests.post(url + "/token", json={"name": "Ada"}, headers={"Origin": ELSEWHERE}, timeout=30)
    assert stranger.status_code == 403
    assert "Access-Control-Allow-Origin" not in stranger.headers
    # Caches must keep answers apart by origin, also those to requests without one.
    assert "Origin" in requests.post(url + "/token", json={"name": "Ada"}, timeout=30).headers["Vary"]


def test_a_page_behind_a_proxy_that_ends_tls_may_connect(open_to_friend: Deployment) -> None:
    token = new_session(open_to_friend.url())["token"]
    header = ["X-Forwarded-Host: chat.example", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.1"]
    with ChatClient(open_to_friend.url(), token, origin="https://chat.example", header=header) as client:
        assert client.receive()["type"] == "session"
    with pytest.raises(websocket.WebSocketBadStatusException):
        ChatClient(open_to_friend.url(), token, origin="http://chat.example", header=header)
    page = requests.get(open_to_friend.url() + "/", headers={"X-Forwarded-Proto": "https"}, timeout=30)
    assert page.headers["Strict-Transport-Security"].startswith("max-age=")


def test_forwarded_headers_are_not_believed_by_default(chat: Deployment) -> None:
    token = new_session(chat.url())["token"]
    header = ["X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.1"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        ChatClient(chat.url(), token, origin=ELSEWHERE, header=header)
    assert refused.value.status_code == 403
    answer = requests.get(chat.url() + "/", headers={"X-Forwarded-Proto": "https"}, timeout=30)
    assert "Strict-Transport-Security" not in answer.headers


def test_an_invalid_host_header_is_refused(chat: Deployment) -> None:
    for host in ("b\xe9", "a b", "evil.example/path", "[::", "a'; script-src *"):
        for path in ("/", "/chat?token=x"):
            upgrade = f"Sec-WebSocket-Key: {'x' * 22}==\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close, Upgrade\r\n{upgrade}\r\n"
            with socket.create_connection(("127.0.0.1", int(chat.webs[0].env["PORT"])), timeout=30) as sock:
                sock.sendall(head.encode("latin-1"))
                assert sock.recv(100).startswith(b"HTTP/1.1 400")
    assert not chat.webs[0].traceback()
