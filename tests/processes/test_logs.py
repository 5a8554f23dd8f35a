"""What logs and Flower show to operators, and what they must not show."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from chatbot.config import RedisSettings, Settings
from chatbot.logs.repeated_lines import CLIENT_LIMIT, INTERVAL
from chatbot.queue.celery_app import create_celery
from chatbot.sessions.ids import session_id
from chatbot.store.keys import session_keys
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.paths import BIN, ROOT

PASSWORD, MODEL_TOKEN, TEXT = "made-up-password", "hf_MadeUpToken", "unmistakably mine"


class Guarded:
    """A deployment with Flower, where Redis needs a password and the model a token."""

    def __init__(self, chat: Deployment) -> None:
        self.chat = chat
        port = free_port()
        self.flower_url = f"http://127.0.0.1:{port}"
        command = [str(BIN / "celery"), "-A", "celery_worker", "flower"]
        # Flower's API is closed unless there is a password, or a setting opens it.
        env = {**chat.workers[0].env, "FLOWER_PORT": str(port), "FLOWER_UNAUTHENTICATED_API": "true"}
        self.flower = Process("flower", command, env, chat.folder / "flower.log").start()
        eventually(lambda: self.flower_answers("/healthcheck"), 60, "Flower answers")

    def flower_answers(self, path: str) -> str:
        try:
            response = requests.get(self.flower_url + path, timeout=30)
        except requests.RequestException:
            return ""
        return response.text if response.ok else ""

    @property
    def processes(self) -> list[Process]:
        return [*self.chat.processes, self.flower]


@pytest.fixture(scope="module")
def guarded(model: ModelServer) -> Iterator[Guarded]:
    deployment = Deployment(
        model.url,
        redis_args=("--requirepass", PASSWORD),
        huggingface_inference_token=MODEL_TOKEN,
        model_attempts=2,
        log_format="json",
    )
    deployment.redis_url = f"redis://:{PASSWORD}@127.0.0.1:{deployment.redis_port}/0"
    for process in deployment.processes:
        process.env["REDIS_URL"] = deployment.redis_url
    with deployment as chat:
        found = Guarded(chat)
        try:
            yield found
        finally:
            found.flower.kill()


def lines(process: Process) -> list[dict[str, Any]]:
    """The lines of a log, decoded."""
    return [json.loads(line) for line in process.lines]


def test_lines_of_web_and_worker_are_json_with_session_message_and_task(guarded: Guarded) -> None:
    chat = guarded.chat
    with ChatClient(chat.url()) as client:
        client.ask(TEXT, "m1")
        client.ask("!fault=server_error*1 again", "m2")
        session = session_id(client.token)
        chat.redis.kill()
        client.send("lost?", "m3")
        client.until("error")
        chat.redis.start()
        chat.wait_for_redis()
    eventually(chat.ready, what="the web process is ready again")

    def line(process: Process, message_id: str, **fields: str) -> dict[str, Any]:
        found: dict[str, Any] = eventually(
            lambda: next(
                (
                    it
                    for it in lines(process)
                    if it.get("message_id") == message_id and all(it[name] == value for name, value in fields.items())
                ),
                None,
            ),
            what=f"{process.name} logs {message_id}",
        )
        return found

    for message_id, level, words in (("m1", "INFO", "replied with"), ("m2", "WARNING", "gave no reply, retrying in")):
        logged = line(chat.workers[0], message_id, level=level)
        assert words in logged["message"]
        assert logged["session"] == session
        assert len(logged["task_id"]) == 36
        assert logged["time"].endswith("+00:00")
    logged = line(chat.webs[0], "m3")
    assert (logged["session"], logged["level"]) == (session, "WARNING")
    assert (logged["logger"], logged["code"]) == ("chatbot.web.transports.frame_handler", "unavailable")
    assert any(it["logger"] == "gunicorn.error" for it in lines(chat.webs[0]))


def test_web_logs_the_beginning_and_the_end_of_a_socket_and_each_refusal(guarded: Guarded, model: ModelServer) -> None:
    chat = guarded.chat
    session_line = "a session begins, from 127.0.0.1"

    def found(session: str) -> list[dict[str, Any]]:
        ours = [line for line in lines(chat.webs[0]) if line.get("session") == session]
        return [line for line in ours if line["logger"] == "chatbot.web.client_lines"]

    with ChatClient(chat.url()) as client:
        session = session_id(client.token)
        reply = client.ask(TEXT, "m1")
        client.send_frame(type="message", msg="", id="m2")
        client.until("error", code="empty_message")
        client.ws.close(4000)
    eventually(lambda: "closes" in found(session)[-1]["message"], what="the end of the socket is logged")
    began, opened, refused, closed = found(session)
    assert (began["message"], opened["message"]) == (session_line, "a socket opens anew, from 127.0.0.1")
    assert (refused["message"], refused["message_id"], refused["code"]) == (
        "a frame is refused: empty_message",
        "m2",
        "empty_message",
    )
    sent = len(client.frames)
    assert re.fullmatch(
        rf"a socket closes with 4000 after \d+\.\d s, 2 frames received, {sent} sent", closed["message"]
    )
    assert {line["level"] for line in (began, opened, refused, closed)} == {"INFO"}
    # The same ids as in the worker's line and in the header for the model.
    worker_line = eventually(lambda: [line for line in lines(chat.workers[0]) if line.get("session") == session])[0]
    assert worker_line["message_id"] == "m1"
    assert model.requests()[-1].headers["x-request-id"] == f"{session}:m1"

    with ChatClient(chat.url(), client.token, after=reply["id"]) as again:
        again.until("session", recovered=True)
        eventually(lambda: found(session)[-1]["message"].startswith("a socket opens again, recovered"))
        again.cut()
        eventually(lambda: "closes with 1006" in found(session)[-1]["message"], what="a lost connection is logged")
    assert requests.delete(chat.url() + "/token", params={"token": client.token}, timeout=30).status_code == 204
    assert requests.get(chat.url() + "/refresh_token", params={"token": client.token}, timeout=30).status_code == 400
    with ChatClient(chat.url(), client.token) as late:
        assert late.closed().code == 1008
    last = [
        ("a session is ended by its client", None),
        ("GET /refresh_token is refused: session_not_found", "session_not_found"),
        ("a socket is refused: not_authenticated", "not_authenticated"),
    ]
    eventually(lambda: [(line["message"], line.get("code")) for line in found(session)[-3:]] == last)


def test_a_storm_of_sockets_is_summarised(guarded: Guarded) -> None:
    chat = guarded.chat
    web = chat.webs[0]
    # The ends of earlier ones are logged.
    eventually(lambda: "chatbot_web_sockets 0.0" in requests.get(chat.url() + "/metrics", timeout=30).text)
    before, began = len(lines(web)), time.monotonic()
    with ChatClient(chat.url()) as client:
        client.until("session")
        for _ in range(3 * CLIENT_LIMIT):
            with ChatClient(chat.url(), client.token) as other:
                other.until("session")

    def new() -> list[dict[str, Any]]:
        return lines(web)[before:]

    def counted(word: str) -> int:
        return sum(line.get("repeated", 1) for line in new() if word in line["message"])

    eventually(lambda: counted("a socket closes") > 3 * CLIENT_LIMIT, what="every socket is counted")
    eventually(lambda: counted("a socket opens") > 3 * CLIENT_LIMIT, what="every socket is counted")
    assert counted("a socket opens") == counted("a socket closes") == 3 * CLIENT_LIMIT + 1
    # An interval's lines and a summary of each kind, once more for each interval that ended meanwhile.
    intervals = 1 + math.ceil((time.monotonic() - began) / INTERVAL)
    assert len([line for line in new() if "a socket" in line["message"]]) <= intervals * (2 * CLIENT_LIMIT + 2)


def test_celerys_own_lines_carry_the_task_and_its_session(guarded: Guarded) -> None:
    session = session_id("made up")
    celery = create_celery(Settings(redis=RedisSettings(broker_url=guarded.chat.redis_url)))
    # One argument too many: Celery logs the error, as the task never begins.
    task_id = celery.send_task("chatbot.generate_reply", (session, "x")).id
    celery.close()
    logged = eventually(
        lambda: [it for it in lines(guarded.chat.workers[0]) if it.get("task_id") == task_id], 30, "Celery logs it"
    )[0]
    assert (logged["logger"], logged["level"], logged["session"]) == ("celery.app.trace", "ERROR", session)
    assert "TypeError" in logged["exception"]


def test_flower_shows_names_and_hashes_and_neither_tokens_texts_nor_passwords(
    guarded: Guarded, model: ModelServer
) -> None:
    with ChatClient(guarded.chat.url()) as client:
        client.until("session")

        def listed() -> dict[str, Any] | None:
            client.ask(TEXT)
            tasks = json.loads(guarded.flower_answers("/api/tasks") or "{}")
            return next(
                (
                    t
                    for t in tasks.values()
                    if session_id(client.token) in (t["args"] or "") and t["state"] == "SUCCESS"
                ),
                None,
            )

        task = eventually(listed, what="Flower lists the task")

        def states() -> list[str]:
            # Other tests' tasks are among them.
            tasks = json.loads(guarded.flower_answers("/api/tasks") or "{}").values()
            return [f"{t['state']} {t['exception'] or ''}" for t in tasks]

        def failed() -> bool:
            client.send("!fault=unauthorized " + TEXT)
            client.until("error", code="model_error")
            return any(state.startswith("FAILURE ") and "ReplyFailed" in state for state in states())

        eventually(failed, what="Flower lists a reply without text as failed")

        def postponed() -> bool:
            client.ask("!fault=server_error*1 " + TEXT)
            return any(state.startswith("RETRY ") for state in states())

        eventually(postponed, what="Flower lists a postponed reply as retried")
    assert model.requests()[-1].headers["authorization"] == f"Bearer {MODEL_TOKEN}"
    assert (task["name"], task["args"]) == ("chatbot.generate_reply", f"('{session_id(client.token)}',)")
    workers = json.loads(guarded.flower_answers("/api/workers?refresh=1"))
    assert [name for name in workers if name.startswith("worker0@")]
    pages = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/workers", "/api/queues/length"]
    pages += [f"/task/{task['uuid']}", f"/api/task/info/{task['uuid']}", "/api/task/types"]
    pages += [f"/worker/{name}" for name in workers]
    for page in pages:
        text = guarded.flower_answers(page)
        assert text, page
        for secret in (client.token, TEXT, PASSWORD, MODEL_TOKEN):
            assert secret not in text, page
    for process in guarded.processes:
        for secret in (client.token, TEXT, PASSWORD, MODEL_TOKEN):
            assert secret not in process.log, process.name


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_misspelled_setting_is_one_warning_that_names_the_nearest(log_format: str) -> None:
    env = {**os.environ, "MODEL_ULR": "http://127.0.0.1:9/hf_MadeUpToken", "LOG_FORMAT": log_format}
    command = [sys.executable, "-c", "import wsgi"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=True)
    (line,) = done.stderr.splitlines()
    message = "MODEL_ULR is not a setting: did you mean MODEL_URL?"
    if log_format == "json":
        assert (json.loads(line)["level"], json.loads(line)["message"]) == ("WARNING", message)
    else:
        assert line.endswith(f"WARNING chatbot.logs: {message}")


@pytest.mark.parametrize("log_format", ["auto", "json"])
def test_the_hints_of_a_command_are_text_for_people(tmp_path: Path, log_format: str) -> None:
    (tmp_path / ".env").write_text(f"PORTT=5102\nFAVOURITE_COLOUR=red\nLOG_FORMAT={log_format}\n")
    (tmp_path / "bot.py").write_text("def reply(conversation):\n    return 'hi'\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL_", "LOG_"))}
    env["PYTHONPATH"] = str(ROOT)
    for command, bot in ((["-m", "flask", "--app", "chatbot.entry.wsgi"], []), (["-m", "chatbot"], ["bot:reply"])):
        done = subprocess.run(
            [sys.executable, *command, "model-check", *bot],
            cwd=tmp_path,
            env={**env, "MODEL_URL": "" if bot else "http://127.0.0.1:9/v1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        hints = [line.partition(" WARNING chatbot.logs: ")[2] for line in done.stderr.splitlines()]
        assert hints == [
            "PORTT is not a setting: did you mean PORT?",
            *([] if bot else ["FAVOURITE_COLOUR in .env is not a setting: docs/settings.md lists them"]),
        ]
        origin = "MODEL_CALLABLE from the command line" if bot else "MODEL_URL from the environment"
        assert done.stdout.splitlines()[0] == f"settings:  {origin}"


#: What would begin a line of its own, or change how a terminal shows one.
CONTROLS = "\x1b[2J\r\x08\x85\u2028\u2029\u202e\u2066"


def provoke(chat: Deployment) -> None:
    """Brings control characters to each place from which foreign text may reach the log."""
    evil = f'x\n{{"level":"FORGED"}}{CONTROLS}'
    assert requests.post(chat.url() + "/token", json={"name": evil}, timeout=30).status_code == 400
    with ChatClient(chat.url()) as client:
        client.send(f"!fault=unauthorized {evil}", "m1")
        client.until("error", code="model_error")
        client.send_frame(type=evil, id=evil, msg=evil)
        client.until("error")
        document = session_keys(session_id(client.token)).document
        chat.client.execute_command("JSON.SET", document, "$", json.dumps({evil: evil}))
        client.send(evil, "m2")
        client.until("error")
    chat.client.lpush("celery", evil, json.dumps({"headers": {"task": evil}, "body": evil, "properties": {}}))
    header = CONTROLS.encode()
    for head in (
        b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % header.replace(b"\r", b""),
        b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % header,
        b"GET /chat?token=%0A%1B&after=%0A%1B HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: \x1b\r\n\r\n",
        header + b" / HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", int(chat.webs[0].env["PORT"])), 5) as sock:
            sock.sendall(head)
            with contextlib.suppress(OSError):
                sock.recv(4096)


def test_every_line_of_every_process_is_json_from_start_to_end(guarded: Guarded) -> None:
    """The last test of this deployment: it stops the processes."""
    chat = guarded.chat
    provoke(chat)
    web, worker = chat.webs[0], chat.workers[0]
    # Celery's own dump of all threads, gunicorn's lines about a killed process.
    os.kill(worker.pid, signal.SIGUSR1)
    (child,) = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text("ascii").split()
    os.kill(int(child), signal.SIGKILL)
    eventually(lambda: "Perhaps out of memory" in web.log, what="gunicorn names the killed process")
    eventually(chat.ready, what="a new web process serves")
    with ChatClient(chat.url()) as client:
        client.ask("are you there?")
        for process in (web, worker, guarded.flower):
            assert process.stop() == 0, process.name
    for process, words in (
        (web, ("Starting gunicorn", "Shutting down: Master", "was sent SIGKILL")),
        (worker, (" ready.", "worker: Warm shutdown", "MainThread")),
        (guarded.flower, ("Visit me at", "shutting down")),
    ):
        found = lines(process)
        assert all({"time", "level", "logger", "message"} <= set(line) for line in found)
        assert not {line["level"] for line in found} - {"INFO", "WARNING", "ERROR", "CRITICAL"}
        assert not set(process.log) & set(CONTROLS) - set("[2J"), process.name
        messages = " ".join(line["message"] for line in found)
        assert [word for word in words if word not in messages] == [], process.name
