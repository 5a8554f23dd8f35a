"""A bot of one's own in a folder of its own, with the two commands of the installed package."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from devtools.harness.chat_client import ChatClient, history, texts
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.paths import ROOT

BOT = """
import time


def reply(conversation, context):
    text = conversation[-1].text
    if text == "fail":
        raise RuntimeError("a detail")
    yield f"{context.name}, attempt {context.attempt}:"
    if text == "block":
        time.sleep(60)
    for word in range(100 if text == "count" else 3):
        time.sleep(0.01)
        yield f" {word}"
"""
COUNT = "".join(f" {number}" for number in range(100))


@pytest.fixture(scope="module")
def bot() -> Iterator[Deployment]:
    """Web and worker, started by `chatbot web bot:reply` and `chatbot worker bot:reply` where bot.py is."""
    chat = Deployment("")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bot.py").write_text(BOT)
        for process, command in ((chat.webs[0], "web"), (chat.workers[0], "worker")):
            process.command = [sys.executable, "-m", "chatbot", command, "bot:reply"]
            process.cwd = Path(folder)
            process.env["PYTHONPATH"] = str(ROOT)
        with chat:
            yield chat


def test_a_bot_in_a_fresh_folder_talks_and_the_page_names_it(bot: Deployment) -> None:
    with ChatClient(bot.url()) as client:
        assert client.ask("hello")["msg"] == "Ada, attempt 1: 0 1 2"
        assert len(client.of_type("delta")) > 0
    assert "bot:reply" in requests.get(bot.url(), timeout=30).text


def test_a_reply_whose_worker_is_killed_is_begun_again_and_comes_once(bot: Deployment) -> None:
    with ChatClient(bot.url()) as client:
        client.send("count", "c1")
        client.until("delta")
        bot.workers[0].restart()
        reply = client.until("message", reply_to="c1")
        assert reply["msg"] == f"Ada, attempt 1:{COUNT}"
        assert client.text[reply["id"]] == reply["msg"]
        assert texts(history(bot.url(), client.token), "bot") == [reply["msg"]]


def test_a_bot_that_blocks_is_stopped_at_once(bot: Deployment) -> None:
    with ChatClient(bot.url()) as client:
        client.send("block", "b1")
        client.until("delta")
        began = time.monotonic()
        client.send_frame(type="stop")
        reply = client.until("message", reply_to="b1")
        # The promise is 0.2 s, but the machine may be busy; the bot itself blocks for a minute.
        assert time.monotonic() - began < 20
        assert (reply["msg"], reply["finish_reason"]) == ("Ada, attempt 1:", "stopped")
        assert client.ask("hello")["msg"] == "Ada, attempt 1: 0 1 2"


def test_an_exception_reaches_the_log_whole_and_the_user_as_a_sentence(bot: Deployment) -> None:
    with ChatClient(bot.url()) as client:
        client.send("fail", "f1")
        failure = client.until("error", id="f1")
        assert failure["code"] == "model_error"
        assert failure["message"] == "The model could not answer this message. You can try again."
    worker: Process = bot.workers[0]
    eventually(lambda: "not retrying: callable: bot:reply raised RuntimeError" in worker.log)
    (line,) = eventually(lambda: [line for line in worker.lines if 'raise RuntimeError(\\"a detail\\")' in line])
    assert '"message_id": "f1"' in line
