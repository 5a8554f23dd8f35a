"""Edits and regenerations over real processes, two clients, and a part that is killed in the middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history
from devtools.harness.deployment import Deployment, eventually


def test_edit_regenerate_select_and_feedback_reach_both_clients(chat: Deployment, model: ModelServer) -> None:
    with ChatClient(chat.url(0)) as one, ChatClient(chat.url(1), one.token) as other:
        assert one.receive()["leaf"] is other.receive()["leaf"] is None
        first = one.ask("the first", "m1")
        one.send_frame(type="edit", of="m1", msg="edited", id="m1b")
        assert one.until("ack") == {"type": "ack", "id": "m1b", "parent": None}
        edited = one.until("message", reply_to="m1b")
        assert other.until("message", id="m1b")["parent"] is None
        # A reply whose chunks all come at once has no delta.
        model.control(hold=2)
        one.send_frame(type="regenerate", of=edited["id"], id="q1")
        assert one.until("ack") == {"type": "ack", "id": "q1", "reply_to": "m1b"}
        assert other.until("request") == {"type": "request", "id": "q1", "reply_to": "m1b"}
        one.until("delta", request="q1")
        model.control(hold=None)
        again = one.until("message", request="q1")
        assert (again["reply_to"], again["parent"]) == ("m1b", "m1b")
        assert {delta["request"] for delta in one.of_type("delta") if delta["id"] == again["id"]} == {"q1"}
        other.send_frame(type="select", id="m1")
        assert one.until("selected")["id"] == other.until("selected")["id"] == first["id"]
        other.send_frame(type="feedback", id=first["id"], rating="up", text="good")
        shown = {"type": "feedback", "id": first["id"], "rating": "up", "text": "good"}
        assert one.until("feedback") == other.until("feedback") == shown
        assert one.of_type("request") == []
        stored = {message["id"]: message for message in history(chat.url(), one.token)}
        assert stored[first["id"]]["feedback"] == {"rating": "up", "text": "good"}
        assert len(stored) == 5
        assert "first" not in (model.requests()[-1].prompt or "")


def test_feedback_is_replayed_and_withdrawn_and_a_regeneration_thinks_and_fails_under_its_own_id(
    chat: Deployment, model: ModelServer
) -> None:
    with ChatClient(chat.url()) as client:
        reply = client.ask("!say=<think>so</think>Done", "m1")
        client.send_frame(type="feedback", id=reply["id"], rating="down", text=None)
        assert client.until("feedback")["rating"] == "down"
        with ChatClient(chat.url(), client.token, after="m1") as again:
            assert again.until("message", id=reply["id"])["feedback"] == {"rating": "down", "text": None}
        client.send_frame(type="feedback", id=reply["id"], rating=None)
        assert client.until("feedback")["rating"] is None
        # A reply whose chunks all come at once has its thinking in the message alone.
        model.control(hold=3)
        client.send_frame(type="regenerate", of=reply["id"], id="q1")
        assert client.until("reasoning", request="q1")["reply_to"] == "m1"
        model.control(hold=None)
        client.until("message", request="q1")
        model.fault("unauthorized", 1)
        client.send_frame(type="regenerate", of=reply["id"], id="q2")
        assert client.until("error", id="q2")["reply_to"] == "m1"
        client.send_frame(type="select", id="nothing")
        assert client.until("error")["code"] == "message_not_found"


def test_interrupt_keeps_what_was_said_and_reject_stores_nothing(chat: Deployment, model: ModelServer) -> None:
    model.control(tokens=200, hold=100)
    with ChatClient(chat.url()) as client:
        client.send("talk on and on", "m1")
        client.until("delta")
        client.send_frame(type="message", msg="no", id="m2", on_busy="reject")
        assert client.until("error")["code"] == "busy"
        client.send_frame(type="message", msg="!say=now", id="m3", on_busy="interrupt")
        stopped = client.until("message", reply_to="m1")
        model.control(hold=None)
        assert stopped["finish_reason"] == "stopped"
        assert stopped["msg"]
        assert client.until("message", reply_to="m3")["msg"] == "now"
        assert [m["id"] for m in history(chat.url(), client.token) if m["source"] == "human"] == ["m1", "m3"]


def _kill_worker(chat: Deployment) -> None:
    for worker in chat.workers:
        worker.kill()
        worker.start()


def _kill_web(chat: Deployment) -> None:
    chat.webs[0].kill()
    chat.webs[0].start()


def _kill_redis(chat: Deployment) -> None:
    chat.redis.kill()
    chat.redis.start()


@pytest.fixture(scope="module")
def mortal(model: ModelServer) -> Any:
    """A deployment of its own, whose parts are killed."""
    with Deployment(model.url, webs=2, workers=1) as deployment:
        yield deployment


@pytest.mark.parametrize("kill", [_kill_worker, _kill_web, _kill_redis])
def test_one_reply_per_request_and_the_tree_intact_though_a_part_is_killed(
    mortal: Deployment, model: ModelServer, kill: Callable[[Deployment], None]
) -> None:
    with ChatClient(mortal.url(0)) as client:
        token = client.token
        first = client.ask("the first", "m1")
        # In progress until a part is killed.
        model.control(tokens=30, hold=5)
        client.send_frame(type="edit", of="m1", msg="edited", id="m1b")
        client.send_frame(type="regenerate", of=first["id"], id="q1")
        client.until("ack", id="q1")
        client.until("delta")
        kill(mortal)
        model.control(hold=None)

    def replies() -> Counter[str]:
        found = history(mortal.url(1), token)
        return Counter(m.get("request", m["reply_to"]) for m in found if m["source"] == "bot")

    def answered() -> bool:
        try:
            return set(replies()) == {"m1", "m1b", "q1"}
        except OSError:
            return False

    eventually(answered, 60, "each request has its reply")
    assert set(replies().values()) == {1}
    stored = history(mortal.url(1), token)
    parents = {m["id"]: m["parent"] for m in stored}
    assert [parents["m1"], parents["m1b"]] == [None, None]
    assert [m["parent"] for m in stored if m["source"] == "bot"] == ["m1", "m1b", "m1"]
    mortal.wait_until_ready()
    for web in (0, 1):
        with ChatClient(mortal.url(web), token, after=first["id"]) as back:
            session = back.receive()
            assert (session["pending"], session["requests"]) == ([], {})
            assert session["leaf"] == stored[-1]["id"]
            assert [back.receive()["id"] for _ in stored[2:]] == [m["id"] for m in stored[2:]]
