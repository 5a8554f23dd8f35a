"""Who gets in, and what those who don't are told."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import websocket
from flask import Flask, request

from chatbot.config import Settings
from chatbot.web import gunicorn_worker
from chatbot.web.origins import origin_allowed
from chatbot.web.proxies import client_address, trust_proxies
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, new_session
from devtools.harness.deployment import Deployment, Process, eventually, free_port
from devtools.paths import BIN

ELSEWHERE = "https://evil.example"
FRIEND = "https://friend.example"


@pytest.fixture(scope="module")
def open_to_friend(model: ModelServer) -> Iterator[Deployment]:
    """Behind a proxy on this machine, and open to pages of a friend."""
    with Deployment(model.url, allowed_origins=FRIEND, trusted_proxies="127.0.0.1") as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("url", "origin", "allowed"),
    [
        ("http://chat.example", "http://chat.example", True),
        ("http://chat.example", "HTTP://CHAT.example", True),
        ("http://chat.example", "http://chat.example:80", True),
        ("http://chat.example:80", "http://chat.example", True),
        ("http://chat.example:8000", "http://chat.example:8000", True),
        ("http://chat.example:8000", "http://chat.example", False),
        ("http://chat.example", "http://chat.example:8000", False),
        ("http://chat.example", "http://sub.chat.example", False),
        ("http://chat.example", "http://chat.example.evil.example", False),
        ("http://chat.example", "http://evil.example/http://chat.example", False),
        ("http://chat.example", "http://chat.example@evil.example", False),
        ("http://chat.example", "ftp://chat.example", False),
        ("http://chat.example", "chat.example", False),
        ("http://chat.example", "null", False),
        ("http://chat.example", "", False),
        ("http://chat.example", "http://[::", False),
        ("http://chat.example", "http://chat.example:x", False),
        # TLS may end in front of us without a word; where it is known, http is another origin.
        ("http://chat.example", "https://chat.example", True),
        ("https://chat.example", "https://chat.example", True),
        ("https://chat.example", "http://chat.example", False),
        ("http://[::1]:5000", "http://[::1]:5000", True),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]", True),
        ("http://[::1]:5000", "http://[::2]:5000", False),
        ("http://chat.example", "https://FRIEND.example", True),
        ("http://chat.example", "http://friend.example", False),
        ("http://chat.example", "https://friend.example:444", False),
    ],
)
def test_an_origin_is_our_own_or_a_listed_one(url: str, origin: str, allowed: bool) -> None:
    with Flask("x").test_request_context("/chat", base_url=url, headers={"Origin": origin}):
        assert origin_allowed(request, [FRIEND]) is allowed
        assert origin_allowed(request, ["*"])


def test_no_origin_is_no_browser() -> None:
    with Flask("x").test_request_context("/chat"):
        assert origin_allowed(request, [])


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
def test_only_trusted_proxies_are_believed(trusted: str, peer: str, forwarded: str, address: str) -> None:
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


@pytest.mark.parametrize(("method", "path"), [("POST", "/token"), ("GET", "/refresh_token"), ("OPTIONS", "/token")])
def test_a_page_from_elsewhere_is_refused(chat: Deployment, method: str, path: str) -> None:
    answer = requests.request(
        method, chat.url() + path, params={"name": "Ada"}, headers={"Origin": ELSEWHERE}, timeout=10
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_forwarded_headers_are_not_believed_by_default(chat: Deployment) -> None:
    token = new_session(chat.url())["token"]
    header = ["X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.1"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        ChatClient(chat.url(), token, origin=ELSEWHERE, header=header)
    assert refused.value.status_code == 403
    answer = requests.get(chat.url() + "/", headers={"X-Forwarded-Proto": "https"}, timeout=10)
    assert "Strict-Transport-Security" not in answer.headers


def test_a_page_of_a_friend_may_use_the_chat(open_to_friend: Deployment) -> None:
    url = open_to_friend.url()
    for method, path in (("POST", "/token"), ("GET", "/refresh_token")):
        preflight = requests.options(
            url + path, headers={"Origin": FRIEND, "Access-Control-Request-Method": method}, timeout=10
        )
        assert preflight.status_code == 204
        assert method in preflight.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        assert preflight.headers["Access-Control-Allow-Origin"] == FRIEND
    answer = requests.post(url + "/token", json={"name": "Ada"}, headers={"Origin": FRIEND}, timeout=10)
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]
    # An error may be read too.
    assert (
        "Access-Control-Allow-Origin"
        in requests.get(url + "/refresh_token", headers={"Origin": FRIEND}, timeout=10).headers
    )
    with ChatClient(url, answer.json()["token"], origin=FRIEND) as client:
        assert client.receive()["type"] == "session"
    stranger = requests.post(url + "/token", json={"name": "Ada"}, headers={"Origin": ELSEWHERE}, timeout=10)
    assert stranger.status_code == 403
    assert "Access-Control-Allow-Origin" not in stranger.headers
    # Whoever caches must tell origins apart, also for an answer that was none's.
    assert "Origin" in requests.post(url + "/token", json={"name": "Ada"}, timeout=10).headers["Vary"]


def test_a_page_behind_a_proxy_that_ends_tls_may_connect(open_to_friend: Deployment) -> None:
    token = new_session(open_to_friend.url())["token"]
    header = ["X-Forwarded-Host: chat.example", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.1"]
    with ChatClient(open_to_friend.url(), token, origin="https://chat.example", header=header) as client:
        assert client.receive()["type"] == "session"
    with pytest.raises(websocket.WebSocketBadStatusException):
        ChatClient(open_to_friend.url(), token, origin="http://chat.example", header=header)
    page = requests.get(open_to_friend.url() + "/", headers={"X-Forwarded-Proto": "https"}, timeout=10)
    assert page.headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/static/main.js"),
        ("POST", "/token?name=Ada"),
        ("POST", "/token"),
        ("GET", "/nothing"),
        ("GET", "/healthz"),
        ("GET", "/" + "x" * 5000),
    ],
)
def test_every_answer_tells_browsers_to_be_careful(chat: Deployment, method: str, path: str) -> None:
    headers = requests.request(method, chat.url() + path, timeout=10).headers
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "microphone=()" in headers["Permissions-Policy"]
    assert "Strict-Transport-Security" not in headers


def test_what_is_no_http_gets_an_error_like_all_others(chat: Deployment) -> None:
    for path, status, code in (("/" + "x" * 5000, 414, "uri_too_long"), ("/?token=" + "t" * 9000, 414, "uri_too_long")):
        answer = requests.get(chat.url() + path, timeout=10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    answer = requests.get(chat.url() + "/", headers={"X": "y" * 20_000}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_long")


def test_a_host_that_is_none_is_refused(chat: Deployment) -> None:
    for host in ("b\xe9", "a b", "evil.example/path", "[::", "a'; script-src *"):
        for path in ("/", "/chat?token=x"):
            upgrade = f"Sec-WebSocket-Key: {'x' * 22}==\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close, Upgrade\r\n{upgrade}\r\n"
            with socket.create_connection(("127.0.0.1", int(chat.webs[0].env["PORT"])), timeout=30) as sock:
                sock.sendall(head.encode("latin-1"))
                assert sock.recv(100).startswith(b"HTTP/1.1 400")
    assert "Traceback" not in chat.webs[0].log


def raw(chat: Deployment, data: bytes, timeout: float = 30) -> bytes:
    """What the first web process answers to `data`, until it closes."""
    answer = b""
    address = ("127.0.0.1", int(chat.webs[0].env["PORT"]))
    # What it has not read when it closes makes that a reset.
    with contextlib.suppress(ConnectionResetError), socket.create_connection(address, timeout=timeout) as sock:
        sock.sendall(data)
        while chunk := sock.recv(4096):
            answer += chunk
    return answer


def test_a_head_that_never_ends_is_cut_off(chat: Deployment) -> None:
    port = int(chat.webs[0].env["PORT"])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        began = time.monotonic()
        sock.sendall(b"GET /chat?token=x HTTP/1.1\r\nHost: x\r\n")
        sock.settimeout(0.5)
        while time.monotonic() - began < 20:
            # A header line now and then does not help.
            try:
                sock.sendall(b"X-Slow: x\r\n")
                if sock.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began == pytest.approx(gunicorn_worker.HEAD_TIMEOUT, abs=2)
        # Everybody else is served meanwhile, as all other tests show.


def test_debugging_is_off_and_no_secret_has_a_default(chat: Deployment) -> None:
    assert requests.get(chat.url() + "/console", timeout=10).status_code == 404
    settings = Settings.from_env({})
    assert settings.model.token is None
    assert "@" not in settings.redis.url


# -- Flower --


def flower(chat: Deployment, folder: Path, **env: str) -> Process:
    """A Flower on a free port, not yet started."""
    port = str(free_port())
    clean = {k: v for k, v in chat.env.items() if not k.startswith("FLOWER_")}
    return Process(
        "flower",
        [str(BIN / "celery"), "-A", "celery_worker", "flower", *env.pop("arguments", "").split()],
        {**clean, "FLOWER_PORT": port, **env},
        folder / "flower.log",
    )


def answer_of(process: Process, path: str = "/", host: str = "127.0.0.1", **headers: str) -> int | None:
    """The status, None while nothing answers."""
    try:
        url = f"http://{host}:{process.env['FLOWER_PORT']}{path}"
        return requests.get(url, headers=headers, timeout=5).status_code
    except requests.ConnectionError:
        return None


def own_address() -> str:
    """An address of this machine that others could reach; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(sock.getsockname()[0])


def test_flower_is_for_this_machine_only(chat: Deployment, tmp_path: Path) -> None:
    process = flower(chat, tmp_path).start()
    try:
        assert eventually(lambda: answer_of(process), 60) == 200
        assert answer_of(process, host=own_address()) is None
    finally:
        process.kill()


@pytest.mark.parametrize(
    "how",
    [
        {"FLOWER_ADDRESS": "0.0.0.0"},
        {"FLOWER_ADDRESS": "0.0.0.0", "FLOWER_BASIC_AUTH": ""},
        {"FLOWER_ADDRESS": "0.0.0.0", "FLOWER_UNAUTHENTICATED": "false"},
        {"arguments": "--address=0.0.0.0"},
        {"arguments": "--address="},
    ],
)
def test_flower_open_to_others_without_a_password_does_not_start(
    chat: Deployment, tmp_path: Path, how: dict[str, str]
) -> None:
    process = flower(chat, tmp_path, **how).start()
    try:
        eventually(lambda: not process.running, 60, "Flower ends")
        assert "FLOWER_BASIC_AUTH" in process.log
        assert "Traceback" not in process.log
        assert process.stop() == 1
    finally:
        process.kill()


def test_flower_open_to_others_asks_for_its_password(chat: Deployment, tmp_path: Path) -> None:
    process = flower(chat, tmp_path, FLOWER_ADDRESS="0.0.0.0", FLOWER_BASIC_AUTH="ada:secret").start()
    try:
        assert eventually(lambda: answer_of(process), 60) == 401
        login = base64.b64encode(b"ada:secret").decode()
        assert answer_of(process, Authorization=f"Basic {login}") == 200
        # Flower leaves these open, as docs/operations.md says.
        assert answer_of(process, "/metrics") == 200
        assert answer_of(process, "/healthcheck") == 200
    finally:
        process.kill()


def test_flower_may_be_told_to_be_open(chat: Deployment, tmp_path: Path) -> None:
    process = flower(chat, tmp_path, FLOWER_ADDRESS="0.0.0.0", FLOWER_UNAUTHENTICATED="true").start()
    try:
        assert eventually(lambda: answer_of(process), 60) == 200
    finally:
        process.kill()


# -- Secrets --


def test_a_session_full_of_errors_leaves_no_secret_in_any_log(model: ModelServer, tmp_path: Path) -> None:
    secrets = {"redis": "redis-pa55word", "model": "hf_" + "s3cret" * 5}
    text = "what-nobody-else-may-read"
    deployment = Deployment(
        model.url,
        redis_args=("--requirepass", secrets["redis"]),
        huggingface_inference_token=secrets["model"],
        model_attempts=1,
        ratelimit_enabled="true",
        ratelimit_session_messages="20/minute",
        log_level="DEBUG",
    )
    deployment.redis_url = deployment.redis_url.replace("redis://", f"redis://:{secrets['redis']}@")
    for process in deployment.processes:
        process.env["REDIS_URL"] = deployment.redis_url
    with deployment as chat, ChatClient(chat.url()) as client:
        token = client.token
        client.ask(text)
        model.control(fault="unauthorized")
        client.send(text, "m1")
        client.until("error")
        client.send_frame(type="retry", id="m1")
        client.until("error")
        model.control(fault="server_error")
        client.send(text, "m2")
        client.until("error")
        model.reset()
        client.send_frame(type="message", msg={text: token}, id=token * 3)
        client.until("error")
        for _ in range(25):
            client.send(text)
        client.until("error", code="rate_limited")
        for path in (f"/refresh_token?token={token}x", f"/{token}", f"/token?name={text}%00&token={token}"):
            requests.post(chat.url() + path, headers={"Authorization": f"Bearer {token}"}, timeout=10)
        for head in (
            f"GET /refresh_token?token={token}\x01 x y HTTP/1.1\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {token}\r\n\r\n",
            f"{token} / HTTP/1.1\r\n\r\n",
            f"GET /?{token}{'x' * 9000} HTTP/1.1\r\n\r\n",
            f"GET /chat?token={token} HTTP/1.1\r\nHost: {token}\xff\r\n\r\n",
            f"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{token}\r\n{text}",
        ):
            answer = raw(chat, head.encode("latin-1"))
            assert token.encode() not in answer
        chat.redis.kill()
        client.send(text, "m3")
        client.until("error", code="unavailable")
        chat.redis.start()
        chat.wait_for_redis()
        eventually(chat.ready, 30)
        # A reset in the middle of a frame.
        client.ws.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # type: ignore[union-attr]
        client.ws.sock.send(b"\x81\xfe\xff")  # type: ignore[union-attr]
        client.ws.sock.close()  # type: ignore[union-attr]
        for process in chat.processes:
            for secret in (token, text, *secrets.values()):
                assert secret not in process.log, f"{process.name}: {_around(process.log, secret)}"


def _around(log: str, secret: str) -> str:
    at = log.index(secret)
    return log[max(at - 500, 0) : at + 200].replace(secret, "<it>")
