"""Steps on one request of a session: its state, the path to it, cancelling and forgetting it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.response import CANCELLED
from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases, Progress
from chatbot.sessions.responses import Responses
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import session_keys

CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}


@pytest.fixture
def responses(redis_client: redis.Redis) -> Responses:
    return Responses(redis_client, ttl=60)


@pytest.fixture
def session(sessions: Sessions) -> str:
    return session_id(sessions.create("api")["token"])


def test_the_state_of_a_request_follows_its_reply(
    responses: Responses, sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.requests.accept(session, "a", "hi", extra={"options": {"temperature": 0}})
    sessions.requests.accept(session, "b", "and?", parent="a", extra={"options": {}})
    waiting = responses.state(session, "a")
    assert (waiting.place, waiting.begun, waiting.reply) == (0, False, None)
    assert waiting.human["options"] == {"temperature": 0}
    work = leases.claim(session)
    assert work is not None
    assert work.options == {"temperature": 0}
    leases.progress([Progress(work, "hel", 0, {"type": "delta"})])
    begun = responses.state(session, "a")
    assert (begun.begun, begun.partial) == (True, "hel")
    assert responses.state(session, "b").partial == ""
    leases.commit(work, "hello", "stop", go_on=False, items=[CALL])
    done = responses.state(session, "a")
    assert done.reply is not None
    assert (done.place, done.reply["msg"], done.reply["items"]) == (None, "hello", [CALL])


def test_a_request_with_options_gets_all_of_its_path_whatever_the_settings_say(
    sessions: Sessions, leases: Leases, session: str
) -> None:
    parent = None
    for number in range(20):
        sessions.requests.accept(session, f"m{number}", f"text {number}", parent=parent, extra={"options": {}})
        work = leases.claim(session)
        assert work is not None
        assert len(work.messages) == 2 * number + 1
        leases.commit(work, "", "stop", go_on=False, items=[CALL])
        parent = f"m{number}"


def test_a_branch_has_a_path_of_its_own(responses: Responses, sessions: Sessions, leases: Leases, session: str) -> None:
    for request, parent in (("a", None), ("b", "a"), ("c", "a")):
        sessions.requests.accept(session, request, request, parent=parent, extra={"options": {}})
        work = leases.claim(session)
        assert work is not None
        leases.commit(work, f"to {request}", "stop", go_on=False)
    name, path = responses.path(session, "c")
    assert name == "api"
    assert [message["msg"] for message in path] == ["a", "to a", "c", "to c"]


def test_a_request_is_cancelled_where_it_stands(
    responses: Responses, sessions: Sessions, leases: Leases, session: str
) -> None:
    for request in "abc":
        sessions.requests.accept(session, request, request)
    assert not responses.cancel(session, "b")
    assert responses.state(session, "b").failure == CANCELLED
    assert responses.cancel(session, "a")
    work = leases.claim(session)
    assert work is not None
    assert (work.message_id, work.stopped) == ("a", True)
    following = leases.commit(work, "", "stopped", go_on=True)
    assert following is not None
    assert following.message_id == "c"
    assert not responses.cancel(session, "a")


def test_a_forgotten_request_is_gone_and_what_follows_stays(
    responses: Responses, sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.requests.accept(session, "a", "my secret", extra={"options": {}, "items": [{"type": "message"}]})
    with pytest.raises(ClientError, match="response_in_progress"):
        responses.forget(session, "a")
    work = leases.claim(session)
    assert work is not None
    leases.commit(work, "your secret", "stop", go_on=False)
    sessions.requests.accept(session, "b", "next", parent="a", extra={"options": {}})
    responses.forget(session, "a")
    with pytest.raises(ClientError, match="response_not_found"):
        responses.state(session, "a")
    assert "secret" not in sessions.read(session).to_json("t")
    work = leases.claim(session)
    assert work is not None
    assert [message["msg"] for message in work.messages] == ["next"]


@pytest.mark.parametrize("step", [Responses.state, Responses.path, Responses.forget])
def test_an_unknown_request_is_not_found(
    responses: Responses, session: str, step: Callable[[Responses, str, str], object]
) -> None:
    for where in (session, "f" * 32):
        with pytest.raises(ClientError, match="response_not_found"):
            step(responses, where, "x")


def test_the_text_that_a_dead_worker_has_published_stays(
    responses: Responses, sessions: Sessions, leases: Leases, redis_client: redis.Redis, session: str
) -> None:
    sessions.requests.accept(session, "a", "hi", extra={"options": {}})
    work = leases.claim(session)
    assert work is not None
    assert work.partial == ""
    leases.progress([Progress(work, "hel", 0, {"type": "delta"})])
    redis_client.delete(session_keys(session).lease)
    taken = leases.claim(session)
    assert taken is not None
    assert (taken.partial, responses.state(session, "a").partial) == ("hel", "hel")
    leases.hand_back(taken)
    again = leases.claim(session)
    assert again is not None
    assert again.partial == "hel"


def test_the_text_of_other_requests_stays_unless_the_model_thought_before_it(
    sessions: Sessions, leases: Leases, session: str
) -> None:
    sessions.requests.accept(session, "a", "hi")
    work = leases.claim(session)
    assert work is not None
    leases.progress([Progress(work, "hel", 0, {"type": "delta"})])
    leases.hand_back(work)
    again = leases.claim(session)
    assert again is not None
    assert again.partial == "hel"
    leases.progress([Progress(again, "", 0, None, "hm", 0, {"type": "reasoning"})])
    leases.hand_back(again)
    last = leases.claim(session)
    assert last is not None
    assert last.partial == ""
