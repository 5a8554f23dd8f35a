"""One conversation through web, Redis, worker and model server, as a contract for every model server.

A test file derives a class from `Conversation` for each server, with a fixture `served`.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devtools.harness.chat_client import ChatClient, history, texts
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.recorder import Recorder
from devtools.paths import BIN, ROOT

#: What a base model continues with unless it is stopped.
LABELS = ("Human:", "Bot:")
#: Seconds within which a refused message gets its `error`: two attempts, a second apart, with a margin.
REFUSED_WITHIN = 15.0


@dataclass
class Served:
    """A model server and a worker that calls it, with a relay between them."""

    chat: Deployment
    worker: Process
    wire: Recorder

    def asked(self) -> list[str]:
        """The input of each request to the model: the prompt, or the roles and texts."""
        return [_prompt(body) for body in self.wire.requests()]


@contextlib.contextmanager
def serve(chat: Deployment, model_url: str, **settings: str) -> Iterator[Served]:
    """A worker for the model server at `model_url`; `settings` are environment variables."""
    with Recorder(model_url) as wire:
        defaults = {"TEMPERATURE": "0", "MODEL_ATTEMPTS": "2", "HISTORY_MESSAGES": "4", "MAX_NEW_TOKENS": "40"}
        worker = chat.worker(0, **{**defaults, **settings, "MODEL_URL": wire.url})
        worker.start()
        try:
            yield Served(chat, worker, wire)
        finally:
            worker.kill()


def model_check(served: Served, **environ: str) -> subprocess.CompletedProcess[str]:
    """`flask --app wsgi model-check` with the worker's settings, overridden by `environ`."""
    command = [str(BIN / "flask"), "--app", "wsgi", "model-check"]
    env = {**served.worker.env, **environ}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


class Conversation:
    """The contract. Derived classes choose the messages."""

    #: Three messages that get a reply each.
    messages = ("Hello!", "What is the capital of France?", "And of Italy?")
    #: A message whose reply takes long enough to be stopped.
    talk = "Tell me a long story about a cat."
    #: A message that does not fit the model's context.
    too_long = "1 2 3 4 5 6 7 8 9 " * 440

    def test_each_message_gets_one_reply_and_the_model_gets_the_earlier_turns(self, served: Served) -> None:
        with ChatClient(served.chat.url()) as client:
            replies = [client.ask(message) for message in self.messages]
            stored = history(client.url, client.token)
            deltas = {delta["id"] for delta in client.of_type("delta")}
        assert [m["source"] for m in stored] == ["human", "bot"] * len(self.messages)
        assert texts(stored, "human") == list(self.messages)
        assert texts(stored, "bot") == [reply["msg"] for reply in replies]
        for reply in replies:
            assert reply["msg"]
            assert reply["id"] in deltas
            assert reply["finish_reason"] in ("stop", "length")
            assert not any(label in reply["msg"] for label in LABELS)
        # The prompt holds the earlier turns, then the new message.
        prompt, at = served.asked()[-1], 0
        for part in (self.messages[1], replies[1]["msg"], self.messages[2]):
            line = part.splitlines()[0]
            assert line in prompt[at:]
            at = prompt.index(line, at) + len(line)

    def test_a_stopped_reply_keeps_its_text_and_the_worker_disconnects(self, served: Served) -> None:
        with ChatClient(served.chat.url()) as client:
            client.send(self.talk)
            client.until("delta")
            client.send_frame(type="stop")
            reply = client.until("message", source="bot")
            assert reply["finish_reason"] == "stopped", client.frames
            assert history(client.url, client.token)[-1]["msg"] == reply["msg"]
            eventually(lambda: served.wire.exchanges[-1].ended_by == "worker", what="the worker disconnects")
            assert client.ask(self.messages[0])["finish_reason"] in ("stop", "length")

    def test_a_refused_message_gets_an_error_and_the_conversation_continues(self, served: Served) -> None:
        with ChatClient(served.chat.url()) as client:
            began = time.monotonic()
            client.send(self.too_long, "too-long")
            error = client.until("error")
            assert time.monotonic() - began < REFUSED_WITHIN
            assert (error["code"], error["id"]) == ("model_error", "too-long")
            assert client.ask(self.messages[0])["msg"]
            assert len(texts(history(client.url, client.token), "bot")) == 1
        eventually(lambda: "the model gave no reply, not retrying" in served.worker.log)

    def test_model_check_passes(self, served: Served) -> None:
        checked = model_check(served)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "verdict:   OK" in checked.stdout


def _prompt(body: dict[str, Any]) -> str:
    if "messages" in body:
        return "\n".join(f"{message['role']}: {message['content']}" for message in body["messages"])
    return str(body.get("prompt", body.get("inputs")))
