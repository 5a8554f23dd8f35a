"""Reasoning in the steps of a session, beside versions that have none."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from chatbot.sessions.leases import Assignment, Leases, Progress
from chatbot.sessions.pages import PAGE_BYTES
from chatbot.sessions.sessions import Sessions
from chatbot.store import script_texts, scripts
from chatbot.store.keys import session_keys
from devtools.harness.histories import store_turns, stored_messages

FRAME: dict[str, Any] = {"type": "reasoning"}


def claimed(sessions: Sessions, leases: Leases, session: str, message: str = "m1") -> Assignment:
    sessions.requests.accept(session, message, "hello")
    work = leases.claim(session)
    assert work is not None
    return work


def thought(work: Assignment, text: str, offset: int = 0) -> Progress:
    return Progress(work, reasoning=text, reasoning_offset=offset, reasoning_frame=FRAME)


def test_reasoning_grows_beside_the_text(sessions: Sessions, leases: Leases, session: str) -> None:
    work = claimed(sessions, leases, session)
    assert leases.progress([thought(work, "é1")]) == ["on"]
    assert leases.progress([Progress(work, "text", 0, FRAME, "22", 3, FRAME)]) == ["on"]
    snapshot = sessions.snapshot(session)
    assert (snapshot.reasoning, snapshot.partial) == ("é122", "text")
    assert leases.progress([thought(work, "lost before it", 7)]) == ["behind"]
    assert leases.progress([thought(work, "anew")]) == ["on"]
    assert sessions.snapshot(session).reasoning == "anew"


@pytest.mark.parametrize("settled", ["commit", "fail", "postpone", "hand_back"])
def test_partial_reasoning_ends_with_the_assignment(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis, settled: str
) -> None:
    work = claimed(sessions, leases, session)
    leases.progress([thought(work, "hm")])
    if settled == "commit":
        leases.commit(work, "hi", "stop", go_on=False, reasoning="hm")
    elif settled == "fail":
        leases.fail(work, "It broke.", go_on=False)
    elif settled == "postpone":
        leases.postpone(work, 1, loading=False)
    else:
        leases.hand_back(work)
    assert sessions.snapshot(session).reasoning == ""
    assert not redis_client.exists(session_keys(session).partial_reasoning)


def test_partial_reasoning_expires_with_its_session(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis
) -> None:
    leases.progress([thought(claimed(sessions, leases, session), "hm")])
    keys = session_keys(session)
    assert redis_client.pexpiretime(keys.partial_reasoning) == redis_client.pexpiretime(keys.document) > 0


def test_a_version_without_reasoning_leaves_none_behind(
    sessions: Sessions, leases: Leases, session: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker dies while the model thinks, and one of the version before answers."""
    leases.progress([thought(claimed(sessions, leases, session), "hm")])
    redis_client.delete(session_keys(session).lease)
    sources = script_texts.source

    def without_reasoning(name: str) -> str:
        text = sources(name)
        assert "if drop_thoughts(work.asked) then" in text
        return text.replace("if drop_thoughts(work.asked) then", "if redis.call('DEL', partial) then")

    monkeypatch.setattr(scripts, "source", without_reasoning)
    before = Leases(redis_client, ttl=60, history_messages=4)
    work = before.claim(session)
    monkeypatch.undo()
    assert work is not None
    assert redis_client.exists(session_keys(session).partial_reasoning)
    assert sessions.snapshot(session).reasoning == ""
    assert leases.progress([Progress(work, "text", 0, FRAME)]) == ["on"]
    assert (sessions.snapshot(session).reasoning, sessions.snapshot(session).partial) == ("", "text")


def give(client: redis.Redis, session: str, reasoning: dict[int, str]) -> list[dict[str, Any]]:
    """Stores 60 turns, some replies with reasoning; returns the messages."""
    store_turns(client, session, [(f"q{number}", f"a{number}") for number in range(60)], 60)
    document = session_keys(session).document
    for number, text in reasoning.items():
        client.execute_command("JSON.SET", document, f".messages[{2 * number + 1}].reasoning", json.dumps(text))
    stored: list[dict[str, Any]] = json.loads(client.execute_command("JSON.GET", document, ".messages"))
    return stored


@pytest.mark.parametrize("text", ["x" * 50_000, "é" * 20_000, "\x01" * 30_000])
def test_a_page_with_much_reasoning_is_bounded(
    sessions: Sessions, session: str, redis_client: redis.Redis, text: str
) -> None:
    stored = give(redis_client, session, dict.fromkeys(range(60), text))
    page = sessions.read(session)
    assert PAGE_BYTES / 5 < len(page.messages.encode()) <= PAGE_BYTES
    assert stored_messages(sessions, session) == stored
    assert sessions.snapshot(session, after="old0").recovered is False
    assert [m["id"] for m in sessions.snapshot(session, after="old59").messages] == [stored[-1]["id"]]


def test_a_little_reasoning_shortens_no_page(sessions: Sessions, session: str, redis_client: redis.Redis) -> None:
    stored = give(redis_client, session, {3: "hm", 59: "hm" * 1000})
    assert json.loads(sessions.read(session).messages) == stored


def test_one_large_message_among_small_ones_costs_its_own_size(
    sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    give(redis_client, session, {0: "x" * PAGE_BYTES})
    assert len(json.loads(sessions.read(session).messages)) >= 40
