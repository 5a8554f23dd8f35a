"""Histories are read in pages, and replays hold at most a page."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis

from chatbot.protocol.client_errors import ClientError, RateLimited, SessionDamaged, SessionNotFound
from chatbot.sessions.buckets import Bucket
from chatbot.sessions.ids import reply_id, session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.pages import PAGE_BYTES, PAGE_MESSAGES, Page, parse_before, parse_limit
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import session_keys
from devtools.harness.histories import store_turns, stored_messages
from tests.support.redis_time import processor_time


def give(client: redis.Redis, session: str, turns: int, text: str = "") -> list[str]:
    """Stores turns whose texts are numbers and `text`; returns the texts."""
    texts = [(f"q{number}{text}", f"a{number}{text}") for number in range(turns)]
    store_turns(client, session, texts, 60)
    return [said for turn in texts for said in turn]


def messages(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(page.messages)
    return found


def test_pages_join_to_the_whole_history(sessions: Sessions, session: str, redis_client: redis.Redis) -> None:
    texts = give(redis_client, session, 333)
    newest = sessions.read(session)
    assert [m["msg"] for m in messages(newest)] == texts[-PAGE_MESSAGES:]
    assert json.loads(newest.before) == messages(newest)[0]["id"]
    older = sessions.read(session, json.loads(newest.before), 10)
    assert [m["msg"] for m in messages(older)] == texts[-PAGE_MESSAGES - 10 : -PAGE_MESSAGES]
    assert [m["msg"] for m in stored_messages(sessions, session)] == texts


def test_a_short_history_is_one_page(sessions: Sessions, session: str) -> None:
    assert sessions.read(session) == Page('"Ada"', sessions.read(session).session_start, "[]", "null", "null", [])
    sessions.requests.accept(session, "m1", "hello")
    page = json.loads(sessions.read(session).to_json('to"ken'))
    assert (page["token"], page["name"], page["more"], page["before"]) == ('to"ken', "Ada", False, None)
    assert [m["msg"] for m in page["messages"]] == ["hello"]
    first = sessions.read(session, "m1")
    assert (first.messages, first.before) == ("[]", "null")


@pytest.mark.parametrize("text", ["x" * 8000, "é" * 4000, "\x01" * 4000, '"' * 8000, "🙂" * 2000])
def test_a_page_has_at_most_256_kb_and_the_next_one_continues(
    sessions: Sessions, session: str, redis_client: redis.Redis, text: str
) -> None:
    texts = give(redis_client, session, 60, text)
    page = sessions.read(session)
    size = len(page.messages.encode())
    assert size <= PAGE_BYTES
    # One more message would not fit, roughly.
    assert size > PAGE_BYTES * 0.7
    assert [m["msg"] for m in stored_messages(sessions, session)] == texts


def test_a_page_holds_a_message_that_is_larger_than_a_page(
    sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    texts = give(redis_client, session, 2, "x" * 300_000)
    assert [m["msg"] for m in messages(sessions.read(session))] == texts[-1:]
    assert [m["msg"] for m in stored_messages(sessions, session)] == texts


def test_pages_stay_right_when_old_messages_are_dropped(redis_client: redis.Redis) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=8, max_history=10)
    leases = Leases(redis_client, ttl=60, history_messages=4, max_history=10)
    session = session_id(sessions.create("Ada")["token"])
    for number in range(20):
        sessions.requests.accept(session, f"m{number}", f"q{number}")
        work = leases.claim(session)
        assert work is not None
        leases.commit(work, f"a{number}", "stop", go_on=False)
    page = sessions.read(session, None, 4)
    assert [m["msg"] for m in messages(page)] == ["q18", "a18", "q19", "a19"]
    page = sessions.read(session, "m17", 100)
    assert ([m["msg"] for m in messages(page)], page.before) == (["q15", "a15", "q16", "a16"], "null")
    with pytest.raises(ClientError, match="unknown_message"):
        sessions.read(session, "m3")


def test_unknown_sessions_ids_and_bad_limits_are_refused(sessions: Sessions, session: str) -> None:
    with pytest.raises(SessionNotFound):
        sessions.read("unknown")
    with pytest.raises(ClientError, match="unknown_message"):
        sessions.read(session, "unknown")
    for before in ("", " ", "a b", "x" * 65, "\x00", "m1\n"):
        with pytest.raises(ClientError, match="unknown_message"):
            parse_before(before)
    for limit in ("", "0", "-1", "201", "1.5", "x", "٣", "9" * 5000, "1 ", "+1"):
        with pytest.raises(ClientError, match="invalid_limit"):
            parse_limit(limit)
    assert (parse_limit(None), parse_limit("1"), parse_limit("200")) == (200, 1, 200)
    assert (parse_before(None), parse_before("m1")) == (None, "m1")


def test_a_refused_read_reads_nothing_and_renews_nothing(
    sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    small, large = Bucket("small", 60_000, 2), Bucket("large", 60_000, 3)
    for _ in range(2):
        sessions.read(session, buckets=(small, large))
    document = session_keys(session).document
    redis_client.pexpire(document, 5_000)
    with pytest.raises(RateLimited) as refused:
        sessions.read(session, buckets=(large, small))
    assert refused.value.retry_after == pytest.approx(60, abs=2)
    assert redis_client.pttl(document) <= 5_000
    sessions.read(session, buckets=(large,))
    assert redis_client.pttl(document) > 50_000


def test_a_page_costs_the_same_in_any_history(redis_client: redis.Redis) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=8)

    def cost(turns: int) -> float:
        session = session_id(sessions.create("Ada")["token"])
        give(redis_client, session, turns, " " + "word " * 20)

        def read_two() -> None:
            for before in (None, f"old{turns // 2 + 50}"):
                assert len(messages(sessions.read(session, before))) == PAGE_MESSAGES

        return processor_time(redis_client, read_two, 40)

    assert cost(10_000) < 2 * cost(150)


def test_a_replay_holds_a_page_and_nothing_of_more(sessions: Sessions, session: str, redis_client: redis.Redis) -> None:
    texts = give(redis_client, session, 150)
    page = sessions.snapshot(session, after="old49")
    # The reply to `after`, and a hundred turns.
    assert (page.recovered, page.messages, page.length) == (False, [], 300)
    page = sessions.snapshot(session, after=reply_id(session, "old49"))
    assert page.recovered is True
    assert [m["msg"] for m in page.messages] == texts[100:]
    assert sessions.snapshot(session, position=99).recovered is False
    assert sessions.snapshot(session, position=99).messages == []
    held = sessions.snapshot(session, position=100)
    assert (held.recovered, len(held.messages)) == (True, 200)


@pytest.mark.parametrize(("text", "most"), [("x" * 8000, 31), ("\x01" * 4000, 10)])
def test_a_replay_holds_at_most_256_kb(
    sessions: Sessions, session: str, redis_client: redis.Redis, text: str, most: int
) -> None:
    give(redis_client, session, 40, text)
    assert sessions.snapshot(session, position=80 - most).recovered is True
    more = sessions.snapshot(session, position=80 - most - 1)
    assert (more.recovered, more.messages) == (False, [])


def test_a_snapshot_holds_the_newest_of_many_failures(
    sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    give(redis_client, session, 150)
    failed = session_keys(session).failed
    redis_client.hset(failed, mapping={f"old{number}": "no" for number in range(150)})
    assert len(sessions.snapshot(session).failed) == 150
    redis_client.hset(failed, mapping={f"gone{number}": "no" for number in range(150)})
    assert sessions.snapshot(session).failed == {f"old{number}": "no" for number in range(50, 150)}


def test_replays_take_their_part_of_a_page_from_the_rate_of_reads(
    sessions: Sessions, session: str, redis_client: redis.Redis
) -> None:
    give(redis_client, session, PAGE_MESSAGES // 2)
    stored = stored_messages(sessions, session)
    bucket = Bucket("chat:rate:test", 60_000, 2)

    def replay(missed: int) -> tuple[bool | None, int]:
        found = sessions.snapshot(session, after=stored[-1 - missed]["id"], buckets=[bucket])
        return found.recovered, len(found.messages)

    half = PAGE_MESSAGES // 2
    assert [replay(half) for _ in range(3)] == [(True, half)] * 3
    assert replay(half + 20) == (False, 0)
    assert [replay(half), replay(half)] == [(True, half), (False, 0)]
    # Who missed nothing takes nothing, nor does a socket that is brought up to date by the server.
    assert replay(0) == (True, 0)
    assert sessions.snapshot(session, position=0).recovered is True


@pytest.mark.parametrize("name", ["index", "state", "turns"])
def test_a_damaged_session_is_an_error_that_asking_again_does_not_cure(
    sessions: Sessions, session: str, redis_client: redis.Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    sessions.requests.accept(session, "m1", "hello")
    key = getattr(session_keys(session), name)
    redis_client.delete(key)
    redis_client.sadd(key, "x")
    with pytest.raises(SessionDamaged) as caught:
        sessions.requests.accept(session, "m2", "and now?")
    assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("session_damaged", 400, None)
    assert "the session is damaged: accept: ResponseError: WRONGTYPE" in caplog.text
