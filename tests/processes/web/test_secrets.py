"""Secrets in requests and frames that fail: none reaches a log or an answer."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

import requests

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment, eventually


def raw(chat: Deployment, data: bytes, timeout: float = 30) -> bytes:
    """The first web process' answer to `data`, until it closes the connection."""
    answer = b""
    address = ("127.0.0.1", int(chat.webs[0].env["PORT"]))
    # A connection closed with unread data is reset.
    with contextlib.suppress(ConnectionResetError), socket.create_connection(address, timeout=timeout) as sock:
        sock.sendall(data)
        while chunk := sock.recv(4096):
            answer += chunk
    return answer


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
        # The rate is to be reached first.
        max_pending_messages=100,
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
            requests.post(chat.url() + path, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        for head in (
            f"GET /refresh_token?token={token}\x01 x y HTTP/1.1\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {token}\r\n\r\n",
            f"{token} / HTTP/1.1\r\n\r\n",
            f"GET /?{token}{'x' * 9000} HTTP/1.1\r\n\r\n",
            f"GET /chat?token={token} HTTP/1.1\r\nHost: {token}\xff\r\n\r\n",
            f"POST /token HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{token}\r\n{text}",
        ):
            answer = raw(chat, head.encode("latin-1"))
            assert token.encode() not in answer
        chat.redis.kill()
        client.send(text, "m3")
        client.until("error", code="unavailable")
        chat.redis.start()
        chat.wait_for_redis()
        eventually(chat.ready)
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
