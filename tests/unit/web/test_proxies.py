"""The address, scheme and host of a client behind proxies."""

from __future__ import annotations

import pytest
from flask import Flask, request

from chatbot.config import Settings
from chatbot.web.proxies import client_address, trust_proxies


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ("", "10.0.0.1", "203.0.113.9", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.0.0.0/8", "10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("fd00::/8, 127.0.0.1", "fd00::1", "2001:db8::1", "2001:db8::1"),
        ("1", "192.0.2.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("2", "192.0.2.1", "198.51.100.1, 203.0.113.9", "198.51.100.1"),
        ("2", "192.0.2.1", "203.0.113.9", "203.0.113.9"),
        ("0", "192.0.2.1", "203.0.113.9", "192.0.2.1"),
    ],
)
def test_headers_count_only_from_trusted_proxies(trusted: str, peer: str, forwarded: str, address: str) -> None:
    proxies = Settings.from_env({"TRUSTED_PROXIES": trusted}).web.trusted_proxies
    entries = [entry for entry in forwarded.split(",") if entry]
    assert client_address(peer, entries, proxies) == address
    app = Flask("x")
    trust_proxies(app, proxies, "")
    app.add_url_rule("/", view_func=lambda: f"{request.remote_addr} {request.scheme} {request.host}")
    headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "chat.example"}
    seen = app.test_client().get("/", headers=headers, environ_overrides={"REMOTE_ADDR": peer}).text
    believed = trusted in ("1", "2") or (trusted not in ("", "0") and peer != "192.0.2.1")
    assert seen == f"{address} {'https chat.example' if believed else 'http localhost'}"


@pytest.mark.parametrize(
    ("own", "trusted", "forwarded", "path", "seen"),
    [
        ("", 0, "", "/token", "/token "),
        ("/chat-app", 0, "", "/chat-app/token", "/token /chat-app"),
        ("/chat-app", 0, "", "/token", "/token /chat-app"),
        ("/chat-app", 0, "", "/healthz", "/healthz /chat-app"),
        ("/chat-app", 0, "", "/chat-app/", "/ /chat-app"),
        ("/chat-app", 0, "", "/chat-apple/token", "/chat-apple/token /chat-app"),
        ("", 1, "/chat-app", "/token", "/token /chat-app"),
        ("", 1, "/chat-app/", "/chat-app/token", "/token /chat-app"),
        ("", 1, "/a, /b/c", "/b/c/token", "/token /b/c"),
        ("/own", 1, "/other", "/other/token", "/token /other"),
        ("/own", 1, "", "/own/token", "/token /own"),
        ("", 0, "/chat-app", "/chat-app/token", "/chat-app/token "),
        ("", 1, "//evil.example", "/token", "/token "),
        ("", 1, "/a b", "/token", "/token "),
        ("", 1, "/", "/token", "/token "),
    ],
)
def test_the_chat_is_served_below_a_path_whether_a_proxy_removes_it_or_not(
    own: str, trusted: int, forwarded: str, path: str, seen: str
) -> None:
    app = Flask("x")
    trust_proxies(app, trusted, own)
    app.add_url_rule("/<path:_>", "path", lambda _: f"{request.path} {request.root_path}")
    app.add_url_rule("/", "root", lambda: f"{request.path} {request.root_path}")
    assert app.test_client().get(path, headers={"X-Forwarded-Prefix": forwarded}).text == seen


def test_the_prefix_alone_leads_to_the_page_and_a_handshake_at_a_prefix_named_like_it_is_served() -> None:
    app = Flask("x")
    trust_proxies(app, 0, "/chat")
    app.add_url_rule("/chat", view_func=lambda: "socket")
    client = app.test_client()
    moved = client.get("/chat?a=b")
    assert (moved.status_code, moved.headers["Location"]) == (308, "/chat/?a=b")
    assert client.get("/chat", headers={"Sec-WebSocket-Key": "x"}).text == "socket"
    assert client.get("/chat/chat", headers={"Sec-WebSocket-Key": "x"}).text == "socket"


def test_a_proxy_that_is_not_named_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("x")
    trust_proxies(app, 0, "")
    client = app.test_client()
    client.get("/")
    assert not caplog.records
    for _ in range(3):
        client.get("/", headers={"X-Forwarded-For": "203.0.113.9"})
    assert [record.getMessage().partition(" and ")[0] for record in caplog.records] == [
        "127.0.0.1 sends X-Forwarded-For"
    ]
