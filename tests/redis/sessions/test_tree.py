"""A conversation is a tree: edits, regenerations, and the path that a session shows, against a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import redis

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.events import Event
from chatbot.sessions.ids import reply_id, session_id
from chatbot.sessions.leases import Assignment, Leases, Progress
from chatbot.sessions.requests import Terms
from chatbot.sessions.sessions import Sessions
from chatbot.store.keys import events_channel, session_keys
from devtools.harness.histories import store_turns, stored_messages
from tests.support.ledger import overdue
from tests.support.redis_time import processor_time
from tests.support.subscription import Subscription
from tests.support.windows import window_begin


@dataclass
class Talk:
    """One session, and a worker that answers it at once."""

    sessions: Sessions
    leases: Leases
    session: str

    def say(self, message_id: str, **place: Any) -> list[str]:
        self.sessions.requests.accept(self.session, message_id, message_id, **place)
        return self.answer()

    def edit(self, of: str, message_id: str) -> list[str]:
        self.sessions.requests.edit(self.session, of, message_id, message_id)
        return self.answer()

    def regenerate(self, of: str, request: str) -> list[str]:
        self.sessions.requests.regenerate(self.session, of, request)
        return self.answer()

    def answer(self) -> list[str]:
        """The prompt; the reply to the request `m1` has the text `a:m1`."""
        work = self.claim()
        self.leases.commit(work, f"a:{work.message_id}", "stop", go_on=False)
        return [message["msg"] for message in work.messages]

    def fail(self) -> None:
        self.leases.fail(self.claim(), "It broke.", go_on=False)

    def claim(self) -> Assignment:
        work = self.leases.claim(self.session)
        assert work is not None
        return work

    def reply(self, request: str) -> str:
        return reply_id(self.session, request)

    def messages(self) -> dict[str, dict[str, Any]]:
        return {message["id"]: message for message in self.stored()}

    def stored(self) -> list[dict[str, Any]]:
        found = stored_messages(self.sessions, self.session)
        page = json.loads(self.sessions.read(self.session).to_json("token"))
        assert found[-len(page["messages"]) :] == [m | {"parent": m["parent"]} for m in page["messages"]][-len(found) :]
        return found

    def leaf(self) -> str | None:
        leaf = self.sessions.snapshot(self.session).leaf
        assert json.loads(self.sessions.read(self.session).leaf) == leaf
        return leaf


@pytest.fixture
def talk(sessions: Sessions, redis_client: redis.Redis, session: str) -> Talk:
    return Talk(sessions, Leases(redis_client, ttl=60, history_messages=20), session)


def test_a_line_has_each_message_as_the_parent_of_the_next(talk: Talk) -> None:
    for message in ("m1", "m2"):
        talk.say(message)
    assert [(m["id"], m["parent"]) for m in talk.stored()] == [
        ("m1", None),
        (talk.reply("m1"), "m1"),
        ("m2", talk.reply("m1")),
        (talk.reply("m2"), "m2"),
    ]
    assert talk.leaf() == talk.reply("m2")


def test_an_edited_message_is_a_sibling_whose_prompt_is_its_own_path(talk: Talk) -> None:
    for message in ("m1", "m2", "m3"):
        talk.say(message)
    assert talk.edit("m2", "m2b") == ["m1", "a:m1", "m2b"]
    assert talk.messages()["m2b"]["parent"] == talk.messages()["m2"]["parent"] == talk.reply("m1")
    assert talk.leaf() == talk.reply("m2b")
    assert talk.say("m4") == ["m1", "a:m1", "m2b", "a:m2b", "m4"]
    assert talk.edit("m1", "m1b") == ["m1b"]
    assert talk.messages()["m1b"]["parent"] is None
    assert talk.edit("m2b", "m2c") == ["m1", "a:m1", "m2c"]


def test_a_regenerated_reply_is_a_sibling_and_the_conversation_goes_on_from_it(talk: Talk) -> None:
    for message in ("m1", "m2"):
        talk.say(message)
    assert talk.regenerate(talk.reply("m2"), "q1") == ["m1", "a:m1", "m2"]
    reply = talk.messages()[talk.reply("q1")]
    assert (reply["reply_to"], reply["parent"], reply["request"], reply["msg"]) == ("m2", "m2", "q1", "a:q1")
    assert talk.leaf() == talk.reply("q1")
    assert talk.say("m3") == ["m1", "a:m1", "m2", "a:q1", "m3"]
    assert talk.messages()["m3"]["parent"] == talk.reply("q1")
    # Another reply to the same message, whichever of its replies is named.
    assert talk.regenerate(talk.reply("q1"), "q2") == ["m1", "a:m1", "m2"]
    assert talk.regenerate("m1", "q3") == ["m1"]
    assert [m["source"] for m in talk.stored()].count("human") == 3


def test_a_message_sent_while_a_reply_is_written_follows_that_reply(talk: Talk) -> None:
    talk.say("m1")
    talk.sessions.requests.regenerate(talk.session, "m1", "q1")
    accepted = talk.sessions.requests.accept(talk.session, "m2", "m2")
    assert accepted.about == {"parent": "q1"}
    assert talk.answer() == ["m1"]
    assert talk.answer() == ["m1", "a:q1", "m2"]
    assert talk.messages()["m2"]["parent"] == "q1"


def test_a_message_may_name_what_it_follows(talk: Talk) -> None:
    for message in ("m1", "m2"):
        talk.say(message)
    assert talk.say("m3", parent=talk.reply("m1")) == ["m1", "a:m1", "m3"]
    assert talk.say("m4", parent=None) == ["m4"]
    assert talk.say("m5", parent="m1") == ["m1", "a:m1", "m5"]
    assert talk.messages()["m5"]["parent"] == talk.reply("m1")
    assert [talk.messages()[m]["parent"] for m in ("m3", "m4")] == [talk.reply("m1"), None]


def test_select_shows_the_path_through_a_message_down_to_the_newest_below_it(talk: Talk) -> None:
    for message in ("m1", "m2", "m3"):
        talk.say(message)
    talk.edit("m2", "m2b")
    talk.say("m4")
    talk.regenerate("m2", "q1")
    talk.say("m5")
    shown = {
        "m2b": talk.reply("m4"),
        talk.reply("m2b"): talk.reply("m4"),
        "m3": talk.reply("m3"),
        talk.reply("m2"): talk.reply("m3"),
        talk.reply("q1"): talk.reply("m5"),
        "q1": talk.reply("m5"),
        "m2": talk.reply("m5"),
        "m1": talk.reply("m5"),
    }
    for message, leaf in shown.items():
        talk.sessions.select(talk.session, message)
        assert talk.leaf() == leaf, message
    talk.sessions.select(talk.session, "m3")
    assert talk.say("m6") == ["m1", "a:m1", "m2", "a:m2", "m3", "a:m3", "m6"]
    assert talk.leaf() == talk.reply("m6")


def test_the_steps_are_published_to_all_sockets(talk: Talk, redis_client: redis.Redis) -> None:
    for message in ("m1", "m2"):
        talk.say(message)
    with Subscription(redis_client, events_channel(talk.session)) as listening:

        def event() -> dict[str, Any]:
            frame: dict[str, Any] = json.loads(Event.decode(listening.next()).frame)
            return frame

        talk.sessions.requests.edit(talk.session, "m2", "m2b", "again")
        edited = event()
        assert (edited["type"], edited["id"], edited["parent"]) == ("message", "m2b", talk.reply("m1"))
        talk.sessions.requests.regenerate(talk.session, "m2", "q1")
        assert event() == {"type": "request", "id": "q1", "reply_to": "m2"}
        talk.sessions.select(talk.session, "m2")
        assert event() == {"type": "selected", "id": "m2"}
        talk.sessions.rate(talk.session, talk.reply("m1"), "up", "fine")
        assert event() == {"type": "feedback", "id": talk.reply("m1"), "rating": "up", "text": "fine"}
        talk.fail()
        assert event()["id"] == "m2b"
        talk.fail()
        failure = event()
    assert (failure["code"], failure["id"], failure["reply_to"]) == ("model_error", "q1", "m2")


def test_a_repeated_edit_or_regeneration_is_not_a_second_one(talk: Talk) -> None:
    talk.say("m1")
    talk.edit("m1", "m1b")
    talk.regenerate("m1", "q1")
    edited = talk.sessions.requests.edit(talk.session, "m1", "m1b", "other")
    assert (edited.reply or {})["msg"] == "a:m1b"
    assert edited.about == {"parent": None}
    again = talk.sessions.requests.regenerate(talk.session, "m1", "q1")
    assert ((again.reply or {})["msg"], again.about) == ("a:q1", {"reply_to": "m1"})
    assert len(talk.stored()) == 5
    for taken in ("q1", talk.reply("m1")):
        with pytest.raises(ClientError, match="invalid_id"):
            talk.sessions.requests.accept(talk.session, taken, "text")
    for taken in ("m1", talk.reply("m1")):
        with pytest.raises(ClientError, match="invalid_id"):
            talk.sessions.requests.regenerate(talk.session, "m1", taken)


def test_steps_on_unknown_messages_are_refused(talk: Talk) -> None:
    talk.say("m1")
    talk.regenerate("m1", "q1")
    reply = talk.reply("m1")
    absent, no_reply, no_message = "does not have the message", "Only a reply", "Only a message of the user"
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        (absent, lambda: talk.sessions.requests.edit(talk.session, "none", "x", "text")),
        (no_message, lambda: talk.sessions.requests.edit(talk.session, reply, "x", "text")),
        (no_message, lambda: talk.sessions.requests.edit(talk.session, "q1", "x", "text")),
        (absent, lambda: talk.sessions.requests.regenerate(talk.session, "none", "x")),
        (absent, lambda: talk.sessions.requests.accept(talk.session, "x", "text", parent="none")),
        (absent, lambda: talk.sessions.select(talk.session, "none")),
        (absent, lambda: talk.sessions.rate(talk.session, "none", "up", None)),
        (no_reply, lambda: talk.sessions.rate(talk.session, "m1", "up", None)),
        (no_reply, lambda: talk.sessions.rate(talk.session, "q1", "up", None)),
    )
    for cause, step in steps:
        with pytest.raises(ClientError, match=f"message_not_found: .*{cause}"):
            step()
    for request, cause in (("none", absent), ("m1", "whose reply failed"), (reply, "whose reply failed")):
        with pytest.raises(ClientError, match=f"not_retryable: .*{cause}"):
            talk.sessions.requests.retry(talk.session, request)
    assert len(talk.stored()) == 3


def test_a_message_with_the_id_of_a_reply_in_progress_is_answered(talk: Talk) -> None:
    """The id stands in the deltas of that reply. The session was damaged by it."""
    talk.sessions.requests.accept(talk.session, "m1", "m1")
    work, taken = talk.claim(), talk.reply("m1")
    talk.sessions.requests.accept(talk.session, taken, "mine")
    following = talk.leases.commit(work, "a:m1", "stop", go_on=True)
    assert following is not None
    assert [message["msg"] for message in following.messages] == ["m1", "a:m1", "mine"]
    talk.leases.commit(following, "yours", "stop", go_on=True)
    assert [message["msg"] for message in talk.stored()] == ["m1", "mine", "a:m1", "yours"]


def test_a_failed_regeneration_can_be_retried_and_is_named(talk: Talk) -> None:
    talk.say("m1")
    talk.sessions.requests.regenerate(talk.session, "m1", "q1")
    snapshot = talk.sessions.snapshot(talk.session)
    assert (snapshot.pending, snapshot.requests, snapshot.leaf) == (["q1"], {"q1": "m1"}, "m1")
    talk.fail()
    snapshot = talk.sessions.snapshot(talk.session)
    assert (list(snapshot.failed), snapshot.requests) == (["q1"], {"q1": "m1"})
    assert talk.sessions.requests.retry(talk.session, "q1").wake
    assert talk.answer() == ["m1"]
    assert talk.messages()[talk.reply("q1")]["reply_to"] == "m1"


def test_feedback_is_stored_with_its_reply(talk: Talk, redis_client: redis.Redis) -> None:
    talk.say("m1")
    reply = talk.reply("m1")
    talk.sessions.rate(talk.session, reply, "down", 'too "long"')
    assert talk.messages()[reply]["feedback"] == {"rating": "down", "text": 'too "long"'}
    talk.sessions.rate(talk.session, reply, "up", None)
    assert talk.messages()[reply]["feedback"] == {"rating": "up", "text": None}
    talk.sessions.rate(talk.session, reply, None, "ignored")
    assert "feedback" not in talk.messages()[reply]
    talk.sessions.rate(talk.session, reply, None, None)


def test_reject_stores_nothing_while_a_request_is_unanswered(talk: Talk) -> None:
    assert talk.say("m1", terms=Terms(on_busy="reject")) == ["m1"]
    talk.sessions.requests.accept(talk.session, "m2", "m2")
    before = talk.stored()
    steps: tuple[Callable[[], object], ...] = (
        lambda: talk.sessions.requests.accept(talk.session, "m3", "m3", Terms(on_busy="reject")),
        lambda: talk.sessions.requests.edit(talk.session, "m1", "m3", "m3", Terms(on_busy="reject")),
        lambda: talk.sessions.requests.regenerate(talk.session, "m1", "m3", Terms(on_busy="reject")),
    )
    for step in steps:
        with pytest.raises(ClientError, match="busy"):
            step()
    assert talk.stored() == before
    # A repetition is acknowledged, whatever is busy.
    assert talk.sessions.requests.accept(talk.session, "m2", "m2", Terms(on_busy="reject")).about == {
        "parent": talk.reply("m1")
    }


@pytest.mark.parametrize("step", ["accept", "edit", "regenerate"])
def test_interrupt_stops_what_runs_and_keeps_its_text_in_one_step(talk: Talk, step: str) -> None:
    talk.say("m1")
    talk.sessions.requests.accept(talk.session, "m2", "m2")
    work = talk.claim()
    talk.sessions.requests.accept(talk.session, "m3", "m3")
    if step == "accept":
        talk.sessions.requests.accept(talk.session, "m4", "m4", Terms(on_busy="interrupt"))
    elif step == "edit":
        talk.sessions.requests.edit(talk.session, "m2", "m4", "m4", Terms(on_busy="interrupt"))
    else:
        talk.sessions.requests.regenerate(talk.session, "m1", "m4", Terms(on_busy="interrupt"))
    assert talk.leases.progress([Progress(work, "so far", 0, {"type": "delta"})]) == ["stop"]
    following = talk.leases.commit(work, "so far", "stopped", go_on=True)
    # Messages that waited before keep their place, and their replies.
    assert following is not None
    assert (following.message_id, following.stopped) == ("m3", False)
    last = talk.leases.commit(following, "a:m3", "stop", go_on=True)
    assert last is not None
    assert (last.message_id, last.stopped) == ("m4", False)


def test_interrupt_drops_a_scheduled_retry(talk: Talk, redis_client: redis.Redis) -> None:
    talk.sessions.requests.accept(talk.session, "m1", "m1")
    talk.leases.postpone(talk.claim(), 30.0, loading=False)
    assert talk.leases.claim(talk.session) is None
    accepted = talk.sessions.requests.accept(talk.session, "m2", "m2", Terms(on_busy="interrupt"))
    assert accepted.wake
    assert overdue(redis_client) == [talk.session]
    first = talk.claim()
    assert (first.message_id, first.stopped) == ("m1", True)


def test_all_replies_and_messages_of_a_trimmed_history_stay_in_order(redis_client: redis.Redis) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=8, max_history=9)
    leases = Leases(redis_client, ttl=60, history_messages=20, max_history=9)
    talk = Talk(sessions, leases, session_id(sessions.create("Ada")["token"]))
    for number in range(30):
        talk.say(f"m{number}")
        talk.regenerate(f"m{number}", f"q{number}")
        if number % 3 == 2:
            talk.edit(f"m{number - 1}", f"e{number}")
        if number % 4 == 3:
            talk.sessions.requests.regenerate(talk.session, f"m{number}", f"f{number}")
            talk.fail()
        assert len(talk.stored()) <= 9
        messages = talk.messages()
        for message in messages.values():
            talk.sessions.select(talk.session, message["id"])
            assert talk.leaf() in messages
        talk.sessions.select(talk.session, f"m{number}")
    keys = session_keys(talk.session)
    own = {field for field in map(str, redis_client.hkeys(keys.index)) if field[0] not in "^#"}
    kept = {m["id"] for m in messages.values() if m["source"] == "human"}
    assert {m for m in own if m[0] in "me" and len(m) < 5} == kept
    # What belongs to dropped messages is gone: a few requests and branches are left, not one for each turn.
    assert len(own) < 20
    assert len(str(redis_client.hget(keys.state, "branches")).split(",")) < 20
    assert redis_client.hlen(keys.failed) <= 2
    assert redis_client.llen(keys.turns) < 12


def test_prompts_of_a_tree_begin_alike_until_they_are_cut(redis_client: redis.Redis) -> None:
    """Edits and regenerations make the numbers of turns grow faster than the path: they must not move its window."""
    sessions = Sessions(redis_client, ttl=60, max_pending=8)
    leases = Leases(redis_client, ttl=60, history_messages=6)
    talk = Talk(sessions, leases, session_id(sessions.create("Ada")["token"]))
    line = [f"a:m{n}" for n in range(20)]
    for number in range(20):
        asked = talk.say(f"m{number}")
        begin = window_begin([True] * number, 6)
        assert asked == [text for n in range(begin, number) for text in (f"m{n}", line[n])] + [f"m{number}"]
        for again in range(number % 4):
            assert talk.regenerate(f"m{number}", f"q{number}-{again}") == asked
        if number % 5 == 4:
            assert talk.edit(f"m{number}", f"e{number}") == [*asked[:-1], f"e{number}"]
        talk.sessions.select(talk.session, talk.reply(f"m{number}"))


def test_a_prompt_ends_where_its_path_was_trimmed(redis_client: redis.Redis) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=8, max_history=6)
    leases = Leases(redis_client, ttl=60, history_messages=20, max_history=6)
    talk = Talk(sessions, leases, session_id(sessions.create("Ada")["token"]))
    talk.say("m1")
    for number in range(3):
        talk.say(f"n{number}", parent=None)
    with pytest.raises(ClientError, match="message_not_found"):
        talk.regenerate("m1", "q1")
    assert talk.say("n3", parent=talk.reply("n0")) == ["a:n0", "n3"]


def test_a_request_whose_message_is_old_keeps_it(redis_client: redis.Redis) -> None:
    sessions = Sessions(redis_client, ttl=60, max_pending=8, max_history=4)
    leases = Leases(redis_client, ttl=60, history_messages=20, max_history=4)
    talk = Talk(sessions, leases, session_id(sessions.create("Ada")["token"]))
    talk.say("m1")
    talk.sessions.requests.accept(talk.session, "m2", "m2")
    talk.sessions.requests.regenerate(talk.session, "m1", "q1")
    for number in range(4):
        talk.sessions.requests.accept(talk.session, f"n{number}", "n")
    assert talk.answer() == ["m1", "a:m1", "m2"]
    assert talk.answer() == ["m1"]
    assert "m1" not in talk.messages()


def branched(client: redis.Redis, turns: int, branches: int) -> Talk:
    """A session of `turns` turns, of which `branches` branch off, evenly spread, from a few turns before."""
    sessions = Sessions(client, ttl=600, max_pending=8)
    leases = Leases(client, ttl=600, history_messages=20)
    talk = Talk(sessions, leases, session_id(sessions.create("Ada")["token"]))
    store_turns(client, talk.session, [("q" * 100, "a" * 400)] * turns, 600)
    if branches:
        keys = session_keys(talk.session)
        every = turns // branches
        places = [turn for turn in range(every, turns) if turn % every == 0]
        client.hset(keys.index, mapping={f"^{turn}": str(max(turn - 4, -1)) for turn in places})
        client.hset(keys.state, "branches", ",".join(map(str, places)))
    return talk


def test_a_reply_costs_the_same_in_any_tree(redis_client: redis.Redis) -> None:
    """In a line of ten, and in 10 000 messages with 500 branches."""

    def cost(talk: Talk) -> float:
        numbers = count()

        def reply() -> None:
            talk.sessions.requests.accept(talk.session, f"m{next(numbers)}", "question")
            talk.leases.commit(talk.claim(), "answer", "stop", go_on=False)

        return processor_time(redis_client, reply, 120)

    ten, many = branched(redis_client, 5, 0), branched(redis_client, 5000, 500)
    for number in range(20):
        ten.say(f"warm{number}")
    costs = cost(ten), cost(many)
    assert costs[1] < 2 * costs[0]
    assert processor_time(redis_client, lambda: many.sessions.select(many.session, "old7"), 1) < 0.1
