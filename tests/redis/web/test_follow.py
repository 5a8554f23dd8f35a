"""Following one response against a real Redis: events that come, that are missing, and that come too often."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.events import Event
from chatbot.protocol.openai.response import View
from chatbot.sessions.leases import Leases, Progress
from chatbot.sessions.responses import RequestState, Responses
from chatbot.sessions.sessions import Sessions
from chatbot.web.openai import follow
from chatbot.web.openai.follow import _MAX_HELD, Events, Follower
from chatbot.web.openai.ids import ResponseId, new_request_id, parse_response_id


@pytest.fixture
def known(sessions: Sessions) -> ResponseId:
    found = ResponseId(sessions.create("api")["token"], new_request_id())
    sessions.requests.accept(found.session, found.request, "hi", extra={"options": {"model": "m"}})
    return found


def views(follower: Follower) -> Iterator[View]:
    return (view for view in follower if view is not None)


def report(leases: Leases, known: ResponseId, text: str) -> None:
    work = leases.claim(known.session)
    assert work is not None
    leases.progress([Progress(work, text, 0, {"type": "delta"})])
    leases.commit(work, text, "stop", go_on=False)


def test_an_event_that_is_missing_makes_it_read_what_is_stored(
    redis_client: redis.Redis, leases: Leases, known: ResponseId
) -> None:
    events = Events(known.session)
    found = views(Follower(Responses(redis_client, ttl=60), events, known))
    assert next(found).status == "in_progress"
    report(leases, known, "hello")
    events.deliver(Event(99, None, '{"type":"delta"}'), b"")
    last = next(found)
    assert (last.status, last.text) == ("completed", "hello")
    assert next(found, None) is None


def test_more_events_than_are_held_are_replaced_by_what_is_stored(
    redis_client: redis.Redis, leases: Leases, known: ResponseId
) -> None:
    events = Events(known.session)
    found = views(Follower(Responses(redis_client, ttl=60), events, known))
    next(found)
    report(leases, known, "hello")
    for number in range(_MAX_HELD + 2):
        events.deliver(Event(number, None, '{"type":"status"}'), b"")
    assert next(found).text == "hello"


def test_a_session_that_has_ended_ends_what_follows_it(
    redis_client: redis.Redis, sessions: Sessions, known: ResponseId
) -> None:
    events = Events(known.session)
    found = views(Follower(Responses(redis_client, ttl=60), events, known))
    next(found)
    sessions.end(known.session)
    events.deliver(Event(2**53, None, ""), b"")
    with pytest.raises(ClientError, match="response_not_found"):
        next(found)


class Flaky(Responses):
    """Redis does not answer for some time."""

    failures = 0

    def state(self, session: str, request: str) -> RequestState:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("no answer")
        return super().state(session, request)


def test_a_redis_that_restarts_ends_nothing(
    redis_client: redis.Redis, leases: Leases, known: ResponseId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "TICK", 0.01)
    events, responses = Events(known.session), Flaky(redis_client, ttl=60)
    found = views(Follower(responses, events, known))
    next(found)
    report(leases, known, "hello")
    responses.failures = 3
    events.missed = True
    assert next(found).text == "hello"
    assert responses.failures == 0


def test_a_redis_that_stays_away_ends_what_follows(
    redis_client: redis.Redis, known: ResponseId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "TICK", 0.01)
    monkeypatch.setattr(follow, "_PATIENCE", 0.05)
    events, responses = Events(known.session), Flaky(redis_client, ttl=60)
    found = views(Follower(responses, events, known))
    next(found)
    responses.failures = 1000
    events.missed = True
    with pytest.raises(StoreUnavailable):
        next(found)


def test_an_id_leads_to_its_session_and_request_and_another_text_to_none(known: ResponseId) -> None:
    assert parse_response_id(str(known)) == known
    for text in ("resp_x", str(known)[:-1], str(known) + "x", str(known).replace("resp_", "")):
        assert parse_response_id(text) is None
