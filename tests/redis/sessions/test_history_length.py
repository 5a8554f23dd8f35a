"""MAX_HISTORY_MESSAGES and MAX_HISTORY_BYTES: the oldest messages are dropped, unanswered ones never."""

from __future__ import annotations

import time

import pytest
import redis

from chatbot.protocol.client_errors import ClientError
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import session_keys
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history
from devtools.harness.deployment import Deployment
from devtools.harness.histories import store_turns, stored_messages
from tests.support.redis_time import processor_time

#: Bytes of the array that holds the messages, whose unused places are not counted.
ARRAY = 1000


class Talk:
    """One session whose history keeps `most` messages that take `most_bytes` of memory."""

    def __init__(self, client: redis.Redis, most: int = 0, most_bytes: int = 0) -> None:
        self.client = client
        self.sessions = Sessions(client, ttl=60, max_pending=8, max_history=most, max_history_bytes=most_bytes)
        self.leases = Leases(client, ttl=60, history_messages=4, max_history=most, max_history_bytes=most_bytes)
        self.session = session_id(self.sessions.create("Ada")["token"])

    def say(self, message_id: str, text: str = "") -> None:
        self.sessions.requests.accept(self.session, message_id, f"says {message_id}{text}")

    def answer(self, text: str = "") -> list[str]:
        """Answers the next message; what its prompt held."""
        work = self.leases.claim(self.session)
        assert work is not None
        self.leases.commit(work, f"answers {work.message_id}{text}", "stop", go_on=False)
        return [message["msg"] for message in work.messages]

    def fail(self) -> None:
        work = self.leases.claim(self.session)
        assert work is not None
        self.leases.fail(work, "no", go_on=False)

    def bytes(self) -> int:
        """Bytes of memory that the messages take."""
        return int(
            self.client.execute_command("JSON.DEBUG", "MEMORY", session_keys(self.session).document, ".messages")
        )

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
        assert held == expected[-len(held) :]
        assert len(held) >= min(len(expected), 4)
    again = talk.sessions.requests.accept(talk.session, "m9", "says m9")
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
    talk.sessions.requests.retry(talk.session, "bad")
    for number in (2, 3):
        talk.say(f"m{number}")
    assert talk.texts()[0] == "says bad"
    assert talk.answer()[-1] == "says bad"
    talk.answer()
    talk.answer()
    assert "says bad" not in talk.texts()
    assert len(talk.texts()) == 4
    with pytest.raises(ClientError, match="not_retryable"):
        talk.sessions.requests.retry(talk.session, "bad")
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


def test_a_step_costs_the_same_after_many_messages_were_dropped(redis_client: redis.Redis) -> None:
    def turn() -> None:
        talk.say(f"m{time.monotonic_ns()}")
        talk.answer()

    talk = Talk(redis_client, 200)
    short = processor_time(redis_client, turn, 90)
    processor_time(redis_client, turn, 900)
    assert processor_time(redis_client, turn, 90) < 2 * short


def test_a_history_is_bounded_in_bytes(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, most_bytes=20_000)
    for number in range(30):
        talk.say(f"m{number}", " ä" * 500)
        talk.answer(" long" * 200)
        assert talk.bytes() <= 20_000 + ARRAY
    kept = [text[:11].split(" ")[1] for text in talk.texts()]
    assert kept == [f"m{number}" for number in range(22, 30) for _ in range(2)][-len(kept) :]
    assert len(kept) >= 12
    # Short messages take more than their text, too.
    for number in range(30, 200):
        talk.say(f"m{number}")
        talk.answer()
        assert talk.bytes() <= 20_000 + ARRAY
    assert len(talk.texts()) > 40
    assert redis_client.hlen(session_keys(talk.session).index) == len(talk.texts())


def test_unanswered_messages_and_the_newest_reply_stay_whatever_their_size(redis_client: redis.Redis) -> None:
    talk = Talk(redis_client, most_bytes=20_000)
    talk.say("old")
    talk.answer()
    for number in range(3):
        talk.say(f"m{number}", "x" * 15_000)
    assert [text[:7] for text in talk.texts()] == ["says m0", "says m1", "says m2"]
    for number in range(3):
        assert talk.answer("y" * 50_000)[-1].startswith(f"says m{number}")
    assert [text[:10] for text in talk.texts()] == ["answers m1", "answers m2"]
    talk.say("last")
    assert talk.answer()[-1] == "says last"
    assert talk.texts() == ["says last", "answers last"]


def test_what_a_version_without_the_count_stored_counts_too(redis_client: redis.Redis) -> None:
    old, new = Talk(redis_client), Talk(redis_client, most_bytes=20_000)
    old.session = new.session
    for number in range(10):
        old.say(f"m{number}", "x" * 3000)
        old.answer()
    assert new.bytes() > 30_000
    for number in range(10, 40):
        # Old and new processes side by side: neither adds to the other's count.
        (old if number % 3 else new).say(f"m{number}", "x" * 3000)
        (old if number % 2 else new).answer()
        new.say(f"n{number}")
        assert new.bytes() <= 20_000 + ARRAY
        new.answer()
        assert new.bytes() <= 20_000 + ARRAY


def test_counting_bytes_costs_the_same_in_any_history(redis_client: redis.Redis) -> None:
    def cost(turns: int) -> float:
        talk = Talk(redis_client, most_bytes=10**9)
        store_turns(redis_client, talk.session, [("q", "a")] * turns, 60)

        def turn() -> None:
            talk.say(f"m{time.monotonic_ns()}")
            talk.answer()

        turn()
        return processor_time(redis_client, turn, 60)

    assert cost(10_000) < 2 * cost(10)


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
