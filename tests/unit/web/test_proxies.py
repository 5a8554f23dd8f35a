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
    trust_proxies(app, proxies)
    app.add_url_rule("/", view_func=lambda: f"{request.remote_addr} {request.scheme} {request.host}")
    headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "chat.example"}
    seen = app.test_client().get("/", headers=headers, environ_overrides={"REMOTE_ADDR": peer}).text
    believed = trusted in ("1", "2") or (trusted not in ("", "0") and peer != "192.0.2.1")
    assert seen == f"{address} {'https chat.example' if believed else 'http localhost'}"
