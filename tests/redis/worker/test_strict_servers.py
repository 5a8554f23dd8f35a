"""The next prompts after a turn without text, or a refused message, on each protocol, with a server that is strict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from chatbot.config import HUGGINGFACE, OPENAI_CHAT, OPENAI_COMPLETIONS, ModelAddress, ModelSettings, Settings
from chatbot.sessions.leases import Leases
from chatbot.sessions.sessions import Sessions
from chatbot.telemetry.counters import Counts
from chatbot.worker.models import create_model
from chatbot.worker.models.errors import ContentRefused
from chatbot.worker.open_streams import OpenStreams
from chatbot.worker.replies import Replies
from devtools.fake_model import ModelServer
from devtools.harness.deployment import eventually
from devtools.harness.histories import stored_messages


@dataclass
class Talk:
    """One session, answered by a worker with a real model server."""

    sessions: Sessions
    leases: Leases
    session: str
    model: ModelServer
    replies: Replies
    streams: OpenStreams
    count: int = 0

    def ask(self, text: str, while_answering: Callable[[], object] = lambda: None) -> dict[str, Any]:
        """The last message that is stored once all are settled."""
        self.count += 1
        self.sessions.requests.accept(self.session, f"m{self.count}", text)
        thread = threading.Thread(target=self.replies.answer, args=(self.session,))
        thread.start()
        while_answering()
        thread.join()
        return stored_messages(self.sessions, self.session)[-1]

    def stop(self) -> None:
        self.sessions.requests.stop(self.session)
        self.streams.stop(self.session, f"m{self.count}")

    def failures(self) -> dict[str, str]:
        return self.sessions.snapshot(self.session).failed


@pytest.fixture(
    params=[("/", HUGGINGFACE), ("/v1/completions", OPENAI_COMPLETIONS), ("/v1/chat/completions", OPENAI_CHAT)],
    ids=["text generation", "completions", "chat"],
)
def talk(
    request: pytest.FixtureRequest,
    model: ModelServer,
    redis_client: redis.Redis,
    sessions: Sessions,
    leases: Leases,
    session: str,
) -> Talk:
    path, api = request.param
    servers = (ModelAddress(model.url + path, api),)
    settings = Settings(model=ModelSettings(servers=servers, system_prompt="Be brief."))
    streams = OpenStreams(leases)
    model.control(strict_turns=True)
    replies = Replies(leases, streams, create_model(settings), settings, Counts())
    return Talk(sessions, leases, session, model, replies, streams)


def test_a_stop_before_the_first_word(talk: Talk) -> None:
    talk.ask("!say=first")

    def stop_early() -> None:
        talk.model.wait_until(lambda records: len(records) == 2)
        talk.stop()

    stopped = talk.ask("!first=60000 never", stop_early)
    assert (stopped["msg"], stopped["finish_reason"]) == ("", "stopped")
    assert talk.ask("!say=third")["msg"] == "third"
    assert talk.failures() == {}


def test_a_stop_while_the_model_thinks(talk: Talk) -> None:
    talk.ask("!say=first")

    def stop_thinking() -> None:
        def thinks() -> bool:
            return talk.sessions.snapshot(talk.session).reasoning.startswith("Let me see")

        eventually(thinks, what="the reasoning is stored")
        talk.stop()

    stopped = talk.ask("!interval=20 !say=<think>Let me see" + " and see" * 500, stop_thinking)
    assert (stopped["msg"], stopped["finish_reason"]) == ("", "stopped")
    assert stopped["reasoning"].startswith("Let me see")
    assert talk.ask("!say=third")["msg"] == "third"
    assert "Let me see" not in str(talk.model.requests()[-1].body)


def test_a_reply_that_is_all_thinking(talk: Talk) -> None:
    talk.ask("!say=first")
    thought = talk.ask("!say=<think>only this</think>")
    assert (thought["msg"], thought["reasoning"]) == ("", "only this")
    assert talk.ask("!say=<think>hm</think>third")["msg"] == "third"
    assert talk.ask("!say=fourth")["msg"] == "fourth"
    assert "only this" not in str(talk.model.requests()[-1].body)
    assert talk.failures() == {}


def test_a_message_that_a_content_filter_refuses(talk: Talk) -> None:
    talk.ask("!say=first")
    talk.model.control(refuse="poison")
    talk.ask("poison, please")
    assert talk.failures() == {"m2": ContentRefused.public}
    assert talk.ask("!say=third")["msg"] == "third"
    # One reply that is refused later: the newest message is asked alone.
    talk.model.control(refuse="")
    talk.ask("!say=poison again")
    talk.model.control(refuse="poison")
    assert talk.ask("!say=fifth")["msg"] == "fifth"
    assert set(talk.failures()) == {"m2"}
