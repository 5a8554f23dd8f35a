"""Logs and Flower's pages hold no token, no password and no text of users, the model or its server, whatever fails."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import requests
import websocket

from devtools.fake_model import ModelServer
from devtools.fake_model.faults import ERRORS
from devtools.harness.chat_client import ChatClient, Closed
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.paths import BIN

#: A word in every message of users and of the model.
SAID = "xylophone"
#: An invalid token.
GUESS = "GuessedTokenOfAStranger"
#: What must never appear.
SECRETS = {
    "the model's token": "hf_MadeUpTokenOfTheModel",
    "Redis' password": "made-up-redis-password",
    "the Sentinels' password": "made-up-sentinel-password",
    "Flower's password": "made-up-flower-password",
    "an invalid token": GUESS,
    "text of users and the model": SAID,
    **{f"the model server's text for {fault}": body["error"] for fault, (_, body) in ERRORS.items()},
}
#: Failures of the model, each with another body. The last one is retried first.
FAILURES = ("bad_request", "invalid", "credits", "unauthorized", "unauthorized_plain", "redirect", "server_error")
LOGIN = ("me", SECRETS["Flower's password"])


def test_no_secret_and_no_text_of_users_or_the_model_is_logged_or_shown_by_flower(
    model: ModelServer, tmp_path: Path
) -> None:
    password = SECRETS["Redis' password"]
    chat = Deployment(
        model.url,
        redis_args=("--requirepass", password),
        redis_password=password,
        sentinel_password=SECRETS["the Sentinels' password"],
        huggingface_inference_token=SECRETS["the model's token"],
        model_attempts=2,
        worker_shutdown_timeout=1,
    )
    chat.redis_url = chat.redis_url.replace("redis://", f"redis://:{password}@")
    flower_url = f"http://127.0.0.1:{free_port()}"
    env = {**chat.env, "FLOWER_PORT": flower_url.rpartition(":")[2], "FLOWER_BASIC_AUTH": ":".join(LOGIN)}
    flower = Process("flower", [str(BIN / "celery"), "-A", "celery_worker", "flower"], env, tmp_path / "flower.log")
    try:
        with chat:
            flower.start()
            eventually(lambda: answers(f"{flower_url}/healthcheck"), what="Flower answers")
            with ChatClient(chat.url()) as client:
                # Events sent before Flower subscribes to them are lost.
                eventually(lambda: asked_and_listed(client, flower_url), what="Flower lists a task")
                converse(client, chat, model)
                eventually(
                    lambda: asked_and_listed(client, flower_url), what="Flower lists a task of after the restart"
                )
                token = client.token
            pages = flower_pages(flower_url)
            logs = {p.name: p.log for p in (*chat.webs, *chat.workers)}
    finally:
        flower.kill()
    logs["flower"] = flower.log
    assert "generate_reply" in "".join(pages)
    for name, text in (*logs.items(), *((f"Flower's page {n}", page) for n, page in enumerate(pages))):
        for what, secret in {**SECRETS, "a token": token}.items():
            assert secret not in text, f"{what} in {name}: {next(line for line in text.splitlines() if secret in line)}"


def converse(client: ChatClient, chat: Deployment, model: ModelServer) -> None:
    """Has every failure in one session."""
    misbehave(chat, client.token)
    for fault in FAILURES:
        fail(client, model, fault)
    model.reset()
    # A process that dies, and a lost Redis, make the longest lines.
    model.control(interval=50, tokens=20)
    client.send(f"{SAID} again")
    client.until("delta")
    chat.workers[0].restart()
    client.until("message")
    chat.redis.kill()
    client.send(f"{SAID} without Redis", "lost")
    client.until("error")
    chat.redis.start()
    eventually(chat.ready, what="the web process is ready again")


def asked_and_listed(client: ChatClient, flower_url: str) -> bool:
    """Asks once; whether Flower then lists a task that it did not list before."""
    before = set(flower_tasks(flower_url))
    client.ask(f"{SAID}, please")
    with contextlib.suppress(AssertionError):
        # A worker sends its events every two seconds.
        return bool(eventually(lambda: set(flower_tasks(flower_url)) - before, 5))
    return False


def flower_tasks(url: str) -> dict[str, Any]:
    tasks: dict[str, Any] = requests.get(f"{url}/api/tasks", auth=LOGIN, timeout=30).json()
    return tasks


def answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=30).ok
    return False


def fail(client: ChatClient, model: ModelServer, fault: str) -> None:
    model.fault(fault)
    client.send(f"{SAID} and {fault}")
    client.until("error", code="model_error")


def misbehave(chat: Deployment, token: str) -> None:
    """Sends requests and frames that make a web server complain, each with a token in it."""
    port = int(chat.webs[0].env["PORT"])
    for path in ("/refresh_token", "/nowhere", "/chat", "/token", "/"):
        requests.get(f"{chat.url()}{path}", params={"token": GUESS}, timeout=30)
        requests.get(f"{chat.url()}{path}", headers={"Authorization": f"Bearer {GUESS}"}, timeout=30)
    requests.post(f"{chat.url()}/token", params={"name": SAID + "\0"}, data=b"\xff", timeout=30)
    for line in (
        f"GET /chat?token={token} HTTP/9.9\r\n\r\n",
        f"GET /chat?token={token}\r\n\r\n",
        f"G\0T /chat?token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET /chat?token={token} HTTP/1.1\r\nAuthorization Bearer {token}\r\n\r\n",
        f"GET /chat HTTP/1.1\r\nHost: localhost\r\nCookie: {'x' * 9000}token={token}\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(line.encode())
            with contextlib.suppress(OSError):
                sock.recv(4096)
    assert ChatClient(chat.url(), GUESS).closed().code == 1008
    with ChatClient(chat.url(), token) as client:
        for frame in (f'{{"{SAID}": 1}}', json.dumps({"type": SAID}), json.dumps({"msg": [SAID]}), f'{{"type":"{SAID}'):
            client.send_text(frame)
        client.ws.send_binary(SAID.encode())
        client.ws.send_frame(websocket.ABNF.create_frame(b"\xff" + SAID.encode(), websocket.ABNF.OPCODE_TEXT))
        with contextlib.suppress(Closed, OSError, websocket.WebSocketException):
            while True:
                client.receive()


def flower_pages(url: str) -> list[str]:
    """The pages that show tasks and workers, and what they fetch."""
    assert requests.get(f"{url}/workers", timeout=30).status_code == 401
    workers = eventually(lambda: requests.get(f"{url}/api/workers?refresh=1", auth=LOGIN, timeout=30).json())
    paths = ["/workers", "/tasks", "/broker", "/api/workers?refresh=1", "/api/tasks", "/api/queues/length", "/metrics"]
    paths += [f"/worker/{name}" for name in workers]
    paths += [f"/task/{task}" for task in list(flower_tasks(url))[:20]]
    return [requests.get(url + path, auth=LOGIN, timeout=30).text for path in paths]
