"""Host names that web serves, against real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import websocket

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment


@pytest.fixture(scope="module")
def named(model: ModelServer) -> Iterator[Deployment]:
    """Reached from other machines as chat.example."""
    with Deployment(model.url, workers=0, host="0.0.0.0", allowed_hosts="chat.example, .sub.example") as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/token"),
        ("GET", "/refresh_token"),
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/c/1"),
        ("GET", "/static/0/main.js"),
        ("GET", "/static/client.js"),
        ("GET", "/chat"),
        ("DELETE", "/token"),
        ("GET", "/openapi.json"),
        ("GET", "/asyncapi.json"),
        ("OPTIONS", "/token"),
        ("GET", "/no-such-page"),
        ("BREW", "/token"),
    ],
)
def test_a_host_of_another_name_is_refused_on_every_path(chat: Deployment, method: str, path: str) -> None:
    host = f"evil.example:{chat.webs[0].env['PORT']}"
    headers = {"Host": host, "Origin": f"http://{host}", "X-Forwarded-Host": "localhost"}
    answer = requests.request(method, chat.url() + path, params={"name": "Ada"}, headers=headers, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "host_not_allowed"
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_a_handshake_to_a_host_of_another_name_is_refused(chat: Deployment) -> None:
    token = new_session(chat.url())["token"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        ChatClient(chat.url(), token, host="evil.example", origin="http://evil.example")
    assert refused.value.status_code == 400
    with ChatClient(chat.url(), token, host="localhost:1", origin="http://localhost:1") as client:
        assert client.receive()["type"] == "session"


@pytest.mark.parametrize(
    ("host", "status"),
    [("chat.example", 200), ("a.sub.example:8080", 200), ("127.0.0.1:5000", 200), ("evil.example", 400)],
)
def test_listed_hosts_and_loopback_are_served(named: Deployment, host: str, status: int) -> None:
    assert requests.get(named.url() + "/healthz", headers={"Host": host}, timeout=30).status_code == status
