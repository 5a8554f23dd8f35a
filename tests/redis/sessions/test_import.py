"""An exported chat that is imported again is the same conversation, and goes on, against a real Redis."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from chatbot.protocol.chat_files import ChatFile, parse_chat_file
from chatbot.protocol.client_errors import ClientError, RateLimited
from chatbot.sessions.buckets import Bucket
from chatbot.sessions.ids import session_id
from chatbot.sessions.imports import UNANSWERED
from chatbot.sessions.leases import Leases
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import session_keys
from tests.redis.sessions.test_tree import Talk


def exported(talk: Talk) -> bytes:
    messages = json.loads(talk.sessions.read(talk.session).to_json("t"))["messages"]
    return json.dumps({"name": "Ada", "session_start": "T", "leaf": talk.leaf(), "messages": messages}).encode()


def imported(talk: Talk, file: bytes) -> Talk:
    chat = parse_chat_file(file, max_messages=100, max_length=100)
    return Talk(talk.sessions, talk.leases, session_id(talk.sessions.import_chat(chat)["token"]))


@pytest.fixture
def talk(sessions: Sessions, redis_client: redis.Redis, session: str) -> Talk:
    return Talk(sessions, Leases(redis_client, ttl=60, history_messages=20), session)


def test_a_tree_comes_back_as_it_was_and_goes_on_like_the_original(talk: Talk, redis_client: redis.Redis) -> None:
    talk.say("m1")
    talk.sessions.requests.regenerate(talk.session, "m1", "q1")
    talk.sessions.requests.accept(talk.session, "m2", "m2")  # follows a regeneration that has no reply yet
    talk.answer()
    talk.answer()
    talk.edit("m2", "m3")
    talk.say("m4")
    talk.say("m5", parent=talk.reply("m1"))
    talk.say("m6", parent=None)
    talk.sessions.select(talk.session, "m4")
    talk.sessions.rate(talk.session, talk.reply("m4"), "down", "why not")
    copy = imported(talk, exported(talk))
    assert copy.stored() == talk.stored()
    assert copy.leaf() == talk.reply("m4")
    keys, others = session_keys(talk.session), session_keys(copy.session)
    assert redis_client.hgetall(others.index) == redis_client.hgetall(keys.index)
    assert redis_client.lrange(others.turns, 0, -1) == redis_client.lrange(keys.turns, 0, -1)
    assert redis_client.hget(others.state, "branches") == redis_client.hget(keys.state, "branches")
    assert 0 < redis_client.pttl(others.index) <= 60_000
    assert copy.say("new") == talk.say("new")
    assert copy.say("more", parent="m1") == talk.say("more", parent="m1")
    copy.sessions.requests.regenerate(copy.session, "m1", "q2")
    assert copy.answer() == ["m1"]


def test_a_message_without_a_reply_counts_as_failed_and_can_be_retried(talk: Talk) -> None:
    talk.say("m1")
    talk.sessions.requests.accept(talk.session, "m2", "m2")
    talk.fail()
    talk.sessions.requests.accept(talk.session, "m3", "m3")
    copy = imported(talk, exported(talk))
    snapshot = copy.sessions.snapshot(copy.session)
    assert (snapshot.failed, snapshot.pending) == (dict.fromkeys(("m2", "m3"), UNANSWERED), [])
    copy.sessions.requests.retry(copy.session, "m2")
    assert copy.answer() == ["m1", "a:m1", "m2"]
    assert copy.leaf() == "m3"


def test_a_history_whose_beginning_was_dropped_or_that_names_no_parents_becomes_a_line(talk: Talk) -> None:
    for message in ("m1", "m2", "m3"):
        talk.say(message)
    document = json.loads(exported(talk))
    del document["messages"][0], document["leaf"]
    del document["messages"][3]["parent"]
    copy = imported(talk, json.dumps(document).encode())
    assert [(message["msg"], message["parent"]) for message in copy.stored()] == [
        ("m2", None),
        ("a:m2", "m2"),
        ("m3", talk.reply("m2")),
        ("a:m3", "m3"),
    ]
    assert copy.say("m4") == ["m2", "a:m2", "m3", "a:m3", "m4"]


def human(message: str, **fields: Any) -> dict[str, Any]:
    return {"id": message, "source": "human", "msg": message, "timestamp": "2026-01-02T03:04:05Z"} | fields


def bot(message: str, to: str, **fields: Any) -> dict[str, Any]:
    return human(message) | {"source": "bot", "reply_to": to, "finish_reason": "stop"} | fields


@pytest.mark.parametrize(
    "messages",
    [
        [human("a"), human("a")],
        [human("a"), bot("b", "a"), bot("b", "a", request="q")],
        [human("a"), bot("b", "a"), bot("c", "a")],
        [human("a"), bot("b", "a"), bot("c", "b")],
        [human("a"), bot("b", "a"), bot("c", "b", request="q")],
        [human("a"), bot("b", "a", request="a")],
        [human("a"), bot("b", "a"), bot("c", "a", request="q"), bot("d", "a", request="q")],
        [bot("b", "a")],
    ],
)
def test_messages_that_do_not_fit_together_are_refused(sessions: Sessions, messages: list[dict[str, Any]]) -> None:
    file = json.dumps({"name": "Ada", "messages": messages}).encode()
    with pytest.raises(ClientError, match="invalid_import: The file "):
        sessions.import_chat(parse_chat_file(file, max_messages=0, max_length=10))


def test_an_import_takes_its_bytes_and_leaves_nothing_when_refused(
    sessions: Sessions, redis_client: redis.Redis
) -> None:
    chat, bucket = ChatFile("Ada", [human("a", msg="x" * 600)], None), Bucket("chat:rate:bytes:x:0", 1000, 1000, True)
    sessions.import_chat(chat, [bucket])
    with pytest.raises(RateLimited) as refused:
        sessions.import_chat(chat, [bucket])
    assert 0 < (refused.value.retry_after or 0) < 1000
    assert len(list(redis_client.scan_iter("*}:session"))) == 1
