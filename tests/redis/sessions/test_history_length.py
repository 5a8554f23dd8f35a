"""MAX_HISTORY_MESSAGES: the oldest messages are dropped, unanswered ones never."""

from __future__ import annotations

import time

import pytest
import redis

from chatbot.protocol.client_errors import ClientError
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.messages import Sessions
from chatbot.store.keys import session_keys
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history
from devtools.harness.deployment import Deployment
from devtools.harness.histories import stored_messages


class Talk:
    """One session whose history keeps `most` messages."""

    def __init__(self, client: redis.Redis, most: int) -> None:
        self.client = client
        self.sessions = Sessions(client, ttl=60, max_pending=8, max_history=most)
        self.leases = Leases(client, ttl=60, history_messages=4, max_history=most)
        self.session = session_id(self.sessions.create("Ada")["token"])

    def say(self, message_id: str) -> None:
        self.sessions.accept(self.session, message_id, f"says {message_id}")

    def answer(self) -> list[str]:
        """Answers the next message; what its prompt held."""
        work = self.leases.claim(self.session)
        assert work is not None
        self.leases.commit(work, f"answers {work.message_id}", "stop", go_on=False)
        return [message["msg"] for message in work.messages]

    def fail(self) -> None:
        work = self.leases.claim(self.session)
        assert work is not None
        self.leases.fail(work, "no", go_on=False)

    def texts(self) -> list[str]:
        return [message["msg"] for message in stored_messages(self.sessions, self.session)]


def test_the_oldest_messages_are_dropped(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, 6)
    for number in range(20):
        talk.say(f"m{number}")
        assert len(talk.texts()) <= 6
        talk.answer()
        assert len(talk.texts()) <= 6
    assert talk.texts() == [f"{verb} m{n}" for n in (17, 18, 19) for verb in ("says", "answers")]
    # Nothing is left of the dropped ones.
    keys = session_keys(talk.session)
    assert redis_client.hlen(keys.index) == 6
    assert redis_client.llen(keys.turns) == 3


def test_prompts_and_repeated_ids_stay_right(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, 6)
    for number in range(10):
        talk.say(f"m{number}")
        held = talk.answer()
        expected = [f"{verb} m{n}" for n in range(number) for verb in ("says", "answers")] + [f"says m{number}"]
        assert held == expected[-4:]
    again = talk.sessions.accept(talk.session, "m9", "says m9")
    assert again.reply is not None
    assert again.reply["msg"] == "answers m9"
    assert len(talk.texts()) == 6


def test_a_history_shorter_than_a_prompt_makes_the_prompt_shorter(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, 2)
    for number in range(5):
        talk.say(f"m{number}")
        assert talk.answer()[-1] == f"says m{number}"
    assert talk.texts() == ["says m4", "answers m4"]


def test_an_unanswered_message_is_kept_with_all_behind_it(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, 4)
    for number in range(8):
        talk.say(f"m{number}")
    assert talk.texts() == [f"says m{number}" for number in range(8)]
    for number in range(8):
        assert talk.answer()[-1] == f"says m{number}"
    assert len(talk.texts()) == 4
    assert talk.texts() == [f"answers m{number}" for number in (4, 5, 6, 7)]


def test_an_old_failure_can_be_retried_until_it_is_dropped(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, 4)
    talk.say("bad")
    talk.fail()
    talk.say("m1")
    talk.answer()
    # During the retry it is unanswered, and is kept.
    talk.sessions.retry(talk.session, "bad")
    for number in (2, 3):
        talk.say(f"m{number}")
    assert talk.texts()[0] == "says bad"
    assert talk.answer()[-1] == "says bad"
    talk.answer()
    talk.answer()
    assert "says bad" not in talk.texts()
    assert len(talk.texts()) == 4
    with pytest.raises(ClientError, match="not_retryable"):
        talk.sessions.retry(talk.session, "bad")
    assert redis_client.hlen(session_keys(talk.session).failed) == 0


def test_resuming_after_a_dropped_message_recovers_nothing(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, 6)
    for number in range(10):
        talk.say(f"m{number}")
        talk.answer()
    gone = talk.sessions.snapshot(talk.session, after="m2")
    assert (gone.recovered, gone.messages, gone.length) == (False, [], 20)
    kept = talk.sessions.snapshot(talk.session, after="m8")
    assert kept.recovered
    assert [m["msg"] for m in kept.messages] == ["answers m8", "says m9", "answers m9"]
    # A socket at a dropped position gets all that is kept.
    late = talk.sessions.snapshot(talk.session, position=1)
    assert len(late.messages) == 6


def test_a_step_takes_as_long_after_many_messages_were_dropped(redis_client: redis.Redis) -> None:
    def cost(talk: Talk, rounds: int) -> float:
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            talk.say(f"m{time.monotonic_ns()}")
            talk.answer()
            times.append(time.perf_counter() - began)
        return sorted(times)[rounds // 2]

    talk = Talk(redis_client, 200)
    short = cost(talk, 90)
    cost(talk, 900)
    assert cost(talk, 90) < 3 * short


def test_a_chat_continues_beyond_the_limit(model: ModelServer) -> None:
    with Deployment(model.url, max_history_messages=5) as chat, ChatClient(chat.url()) as client:
        for number in range(8):
            assert client.ask(f"question {number}", f"m{number}")["reply_to"] == f"m{number}"
        kept = history(chat.url(), client.token)
        assert len(kept) == 5
        assert kept[-1]["reply_to"] == "m7"
        with ChatClient(chat.url(), client.token, after="m7") as resumed:
            assert resumed.receive()["recovered"] is True
            assert resumed.receive()["reply_to"] == "m7"
        with ChatClient(chat.url(), client.token, after="m0") as lost:
            assert lost.receive()["recovered"] is False
