"""Whatever goes wrong: no token, no password, nothing that people or the model say, in any log or on Flower's pages."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import requests
import websocket

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, Closed
from devtools.harness.deployment import Deployment, Process, eventually, free_port
from devtools.paths import BIN

#: What must never appear; people and the model say a word of these in every message.
SAID = "xylophone"
SECRETS = {
    "the model's token": "hf_MadeUpTokenOfTheModel",
    "Redis' password": "made-up-redis-password",
    "the Sentinels' password": "made-up-sentinel-password",
    "Flower's password": "made-up-flower-password",
    "what people say": SAID,
}
#: Failures of the model that are not tried again, each with a body of its own, and one that is.
FOR_GOOD = ("bad_request", "invalid", "credits", "unauthorized", "unauthorized_plain", "redirect", "server_error")


def test_nothing_that_is_nobody_elses_business_is_logged_or_shown(model: ModelServer, tmp_path: Path) -> None:
    password = SECRETS["Redis' password"]
    chat = Deployment(
        model.url,
        redis_args=("--requirepass", password),
        redis_password=password,
        sentinel_password=SECRETS["the Sentinels' password"],
        huggingface_inference_token=SECRETS["the model's token"],
        model_attempts=2,
        worker_shutdown_timeout=1,
        model_read_timeout=1,
        model_timeout=3,
    )
    chat.redis_url = chat.redis_url.replace("redis://", f"redis://:{password}@")
    tokens: list[str] = []
    flower_port = str(free_port())
    login = ("me", SECRETS["Flower's password"])
    env = {**chat.env, "FLOWER_PORT": flower_port, "FLOWER_BASIC_AUTH": ":".join(login)}
    command = [str(BIN / "celery"), "-A", "celery_worker", "flower"]
    flower = Process("flower", command, env, tmp_path / "flower.log")
    pages: list[str] = []
    try:
        with chat:
            flower.start()
            eventually(lambda: answers(f"http://127.0.0.1:{flower_port}/healthcheck"), 30, "Flower answers")
            with ChatClient(chat.url()) as client:
                tokens.append(client.token)
                client.ask(f"{SAID}, please")
                misbehave(chat, client.token)
                for fault in FOR_GOOD:
                    fail(client, model, fault)
                model.reset()
                # A process that dies, and a Redis that is away, make the longest lines.
                model.control(interval=50, tokens=20)
                client.send(f"{SAID} again")
                client.until("delta")
                chat.workers[0].restart()
                client.until("message")
                chat.redis.kill()
                client.send(f"{SAID} in vain", "in-vain")
                client.until("error")
                chat.redis.start()
                eventually(chat.ready, 30, "the web process is ready again")
                client.ask(f"{SAID} at last")
            pages = flower_pages(f"http://127.0.0.1:{flower_port}", login)
            logs = {p.name: p.log for p in (*chat.webs, *chat.workers, chat.beat)}
    finally:
        flower.kill()
    logs["flower"] = flower.log
    assert "generate_reply" in "".join(pages)
    wanted = {**SECRETS, "a token": tokens[0], "a made-up token": "GuessedTokenOfSomebody"}
    for name, text in (*logs.items(), *((f"Flower's page {n}", page) for n, page in enumerate(pages))):
        for what, secret in wanted.items():
            assert secret not in text, f"{what} in {name}: {next(line for line in text.splitlines() if secret in line)}"


def answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=5).ok
    return False


def fail(client: ChatClient, model: ModelServer, fault: str) -> None:
    model.fault(fault)
    client.send(f"{SAID} and {fault}")
    client.until("error", code="model_error")


def misbehave(chat: Deployment, token: str) -> None:
    """What makes a web server complain, each with a token in it."""
    guess = "GuessedTokenOfSomebody"
    port = int(chat.webs[0].env["PORT"])
    for path in ("/refresh_token", "/nowhere", "/chat", "/token", "/"):
        requests.get(f"{chat.url()}{path}", params={"token": guess}, timeout=10)
        requests.get(f"{chat.url()}{path}", headers={"Authorization": f"Bearer {guess}"}, timeout=10)
    requests.post(f"{chat.url()}/token", params={"name": SAID + "\0"}, data=b"\xff", timeout=10)
    for line in (
        f"GET /chat?token={token} HTTP/9.9\r\n\r\n",
        f"GET /chat?token={token}\r\n\r\n",
        f"G\0T /chat?token={token} HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET /chat?token={token} HTTP/1.1\r\nAuthorization Bearer {token}\r\n\r\n",
        f"GET /chat HTTP/1.1\r\nHost: a\r\nCookie: {'x' * 9000}token={token}\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(line.encode())
            with contextlib.suppress(OSError):
                sock.recv(4096)
    assert ChatClient(chat.url(), guess).closed().code == 1008
    with ChatClient(chat.url(), token) as client:
        for frame in (f'{{"{SAID}": 1}}', json.dumps({"type": SAID}), json.dumps({"msg": [SAID]}), f'{{"type":"{SAID}'):
            client.send_text(frame)
        client.ws.send_binary(SAID.encode())
        client.ws.send_frame(websocket.ABNF.create_frame(b"\xff" + SAID.encode(), websocket.ABNF.OPCODE_TEXT))
        with contextlib.suppress(Closed, OSError, websocket.WebSocketException):
            while True:
                client.receive()


def flower_pages(url: str, login: tuple[str, str]) -> list[str]:
    """The pages that show tasks and workers, and what they fetch."""
    assert requests.get(f"{url}/workers", timeout=10).status_code == 401
    workers = eventually(lambda: requests.get(f"{url}/api/workers?refresh=1", auth=login, timeout=20).json(), 30)
    # What a worker does it tells every two seconds.
    tasks = eventually(lambda: requests.get(f"{url}/api/tasks", auth=login, timeout=10).json(), 30, "a task is known")
    paths = ["/workers", "/tasks", "/broker", "/api/workers?refresh=1", "/api/tasks", "/api/queues/length", "/metrics"]
    paths += [f"/worker/{name}" for name in workers]
    paths += [f"/task/{task}" for task in list(tasks)[:20]]
    return [requests.get(url + path, auth=login, timeout=20).text for path in paths]
