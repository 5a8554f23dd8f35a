"""Which hosts a request may name."""

from __future__ import annotations

import pytest
from flask import Flask, request

from chatbot.web.hosts import host_allowed, is_loopback, request_allowed, served_hosts
from chatbot.web.proxies import trust_proxies


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:5000", True),
        ("localhost.", True),
        ("127.0.0.1:1", True),
        ("[::1]:5000", True),
        ("chat.example.org:443", True),
        ("Example.net", True),
        ("a.b.example.net", True),
        ("10.0.0.7:80", True),
        ("", False),
        (":5000", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:127.0.0.1", False),
        ("evilexample.net", False),
        ("127.0.0.2", False),
        ("[::2]", False),
        ("localhost,evil.example", False),
        ("user@localhost", False),
    ],
)
def test_loopback_and_listed_hosts_are_allowed_on_any_port(host: str, allowed: bool) -> None:
    served = served_hosts("127.0.0.1", ["chat.example.org", ".example.net", "10.0.0.7"])
    assert host_allowed(host, served) is allowed
    assert host_allowed(host, ["*"])


@pytest.mark.parametrize(
    ("address", "listed", "evil", "own"),
    [
        ("127.0.0.1", (), False, True),
        ("localhost", (), False, True),
        ("::1", (), False, True),
        ("127.0.0.1", ("*",), True, True),
        ("0.0.0.0", (), True, True),
        ("0.0.0.0", ("chat.example",), False, True),
        ("10.1.2.3", ("chat.example",), False, True),
    ],
)
def test_any_host_is_served_only_where_others_reach_the_server_and_none_is_listed(
    address: str, listed: tuple[str, ...], evil: bool, own: bool
) -> None:
    served = served_hosts(address, listed)
    assert host_allowed("evil.example:5000", served) is evil
    # Health checks of a container name it so.
    assert host_allowed("127.0.0.1:5000", served) is own
    assert host_allowed(f"[{address}]" if ":" in address else address, served)


def test_loopback_addresses_are_known() -> None:
    assert all(is_loopback(address) for address in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(address) for address in ("", "0.0.0.0", "::", "10.0.0.1", "example.org"))


@pytest.mark.parametrize(
    ("trusted", "host", "forwarded", "allowed"),
    [
        (0, "localhost", None, True),
        (0, "localhost", "evil.example", True),
        (0, "evil.example", "localhost", False),
        (1, "localhost", "chat.example", True),
        (1, "localhost", "evil.example", False),
        # A page whose name leads here may send this header.
        (1, "evil.example", "localhost", False),
    ],
)
def test_a_forwarded_host_counts_from_trusted_proxies_and_beside_the_own_one(
    trusted: int, host: str, forwarded: str | None, allowed: bool
) -> None:
    app = Flask("x")
    found = []

    @app.before_request
    def check() -> None:
        found.append(request_allowed(request, served_hosts("127.0.0.1", ["chat.example"])))

    trust_proxies(app, trusted, "")
    headers = {"Host": host, **({"X-Forwarded-Host": forwarded} if forwarded else {})}
    app.test_client().get("/", headers=headers)
    assert found == [allowed]


@pytest.mark.parametrize(("protocol", "allowed"), [("HTTP/1.0", True), ("HTTP/1.1", False)])
def test_only_http_1_0_may_name_no_host(protocol: str, allowed: bool) -> None:
    with Flask("x").test_request_context("/"):
        request.environ.pop("HTTP_HOST")
        request.environ["SERVER_PROTOCOL"] = protocol
        assert request_allowed(request, served_hosts("127.0.0.1", ())) is allowed
