"""Event streams, polls and frames as requests, against real processes: the same promise as on a websocket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from chatbot.sessions.ids import session_id
from chatbot.store.keys import session_keys
from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history, new_session
from devtools.harness.deployment import Deployment, eventually
from tests.support.http_transports import EventClient, poll, post

SLOWLY = "!interval=20 !tokens=25 tell me"


@pytest.fixture
def token(chat: Deployment) -> str:
    return str(new_session(chat.url())["token"])


def test_an_event_stream_carries_the_frames_of_a_websocket(chat: Deployment, token: str) -> None:
    with EventClient(chat.url(0), token) as events, ChatClient(chat.url(1), token) as client:
        headers = events.response.headers
        assert headers["Content-Type"].startswith("text/event-stream")
        assert headers["X-Accel-Buffering"] == "no"
        assert "no-store" in headers["Cache-Control"]
        assert events.until("session")["recovered"] is None
        client.receive()
        acknowledged = post(chat.url(1), token, {"type": "message", "msg": SLOWLY, "id": "m1"})
        assert (acknowledged.status_code, acknowledged.json()) == (200, {"type": "ack", "id": "m1", "parent": None})
        reply = client.until("message", source="bot")
        events.until("message", id=reply["id"])
        assert events.frames[1:] == client.frames[1:]
        assert events.last_id == reply["id"]


def test_an_event_stream_resumes_after_the_last_event_id(chat: Deployment, token: str) -> None:
    for number in (1, 2):
        with ChatClient(chat.url(), token) as client:
            client.ask(f"question {number}", f"m{number}")
    replies = [message["id"] for message in history(chat.url(), token)][1::2]
    with EventClient(chat.url(1), token, after="unknown", **{"Last-Event-ID": replies[0]}) as events:
        assert events.until("session")["recovered"] is True
        events.until("message", id=replies[1])
        assert [frame["id"] for frame in events.frames[1:]] == ["m2", replies[1]]
    with EventClient(chat.url(1), token, after="unknown") as events:
        assert events.until("session")["recovered"] is False


@pytest.mark.parametrize(
    ("frame", "status", "code", "about"),
    [
        ({"type": "message", "msg": " ", "id": "a1"}, 400, "empty_message", "a1"),
        ({"type": "message", "msg": "x", "id": "a b"}, 400, "invalid_id", None),
        ({"type": "dance"}, 400, "unknown_type", None),
        ({"type": "stop"}, 409, "nothing_to_stop", None),
        ({"type": "retry", "id": "never-sent"}, 409, "not_retryable", "never-sent"),
        ({"type": "select", "id": "never-sent"}, 404, "message_not_found", "never-sent"),
        ("x" * 8001, 400, "message_too_long", None),
        (b"\xff", 400, "invalid_frame", None),
    ],
)
def test_a_bad_frame_gets_the_fields_of_its_error_frame(
    chat: Deployment, token: str, frame: dict[str, str], status: int, code: str, about: str | None
) -> None:
    answer = post(chat.url(), token, frame)
    error = answer.json()["error"]
    assert set(error) == {"type", "code", "message", "id", "retry_after"}
    assert (answer.status_code, error["type"], error["code"], error["id"]) == (status, "error", code, about)


def test_a_body_that_is_too_large_is_not_read(chat: Deployment, token: str) -> None:
    too_long = post(chat.url(), token, "x" * 70_000)
    assert (too_long.status_code, too_long.json()["error"]["message"]) == (
        413,
        "The request is larger than this address takes: at most 65536 bytes",
    )


def test_a_repeated_message_gets_its_ack_and_its_reply(chat: Deployment, token: str) -> None:
    post(chat.url(), token, {"type": "message", "msg": "once", "id": "m1"})
    eventually(lambda: len(history(chat.url(), token)) == 2)
    again = post(chat.url(1), token, {"type": "message", "msg": "once", "id": "m1"}).json()
    assert (again["type"], again["reply"]["type"], again["reply"]["reply_to"]) == ("ack", "message", "m1")
    assert len(history(chat.url(), token)) == 2


def test_text_as_typed_is_a_message_and_what_has_no_ack_gets_204(chat: Deployment, token: str) -> None:
    message = post(chat.url(), token, "by hand").json()["id"]
    reply = eventually(lambda: history(chat.url(), token)[1:])[0]
    assert history(chat.url(), token)[0]["id"] == message
    assert post(chat.url(), token, {"type": "feedback", "id": reply["id"], "rating": "up"}).status_code == 204
    assert history(chat.url(), token)[1]["feedback"] == {"rating": "up", "text": None}


def test_polls_at_changing_processes_put_the_reply_together(chat: Deployment, model: ModelServer, token: str) -> None:
    """Events that come between two polls are missed by each process."""
    first = poll(chat.url(), token).json()
    assert [frame["type"] for frame in first["frames"]] == ["session"]
    # In progress until a poll has seen a part of it.
    model.control(hold=12)
    post(chat.url(), token, {"type": "message", "msg": SLOWLY, "id": "m1"})
    after, text, reply, sent = first["after"], "", None, 0
    for number in range(100):
        answer = poll(chat.url(number % 2), token, after, 10).json()
        after = answer["after"]
        for frame in answer["frames"]:
            assert frame["type"] in ("message", "delta")
            if frame["type"] == "delta":
                assert frame["offset"] <= len(text)
                text = text[: frame["offset"]] + frame["msg"]
                sent += len(frame["msg"])
                model.control(hold=None)
            elif frame["source"] == "bot":
                reply = frame
        if reply:
            break
        time.sleep(0.03)
    assert reply is not None
    assert reply["msg"].startswith(text)
    # What the client has is not sent again.
    assert sent == len(text) > 0


def test_a_poll_learns_of_a_selected_path_once_and_of_no_other(chat: Deployment, token: str) -> None:
    after: str | None = None

    def frames(*kinds: str) -> list[tuple[str, str]]:
        nonlocal after
        answer = poll(chat.url(), token, after).json()
        after = answer["after"]
        return [(frame["type"], frame["id"]) for frame in answer["frames"] if frame["type"] in kinds]

    with ChatClient(chat.url(), token) as client:
        first = client.ask("first", "m1")["id"]
        after = poll(chat.url(), token, first).json()["after"]
        client.send_frame(type="regenerate", of=first, id="q1")
        again = client.until("message", request="q1")["id"]
        assert frames("message", "selected") == [("message", again)]
        # Both paths have new messages; the older one is shown.
        client.ask("second", "m2")
        second = client.of_type("message")[-1]["id"]
        client.send_frame(type="message", msg="third", id="m3", parent=first)
        client.until("message", reply_to="m3")
        client.send_frame(type="select", id="m2")
        assert client.until("selected")["id"] == second
        assert frames("selected") == [("selected", second)]
        client.send_frame(type="feedback", id=first, rating="up")
        client.until("feedback")
        assert frames("message", "selected") == []


def test_a_poll_answers_at_once_when_something_came_later_and_else_waits(chat: Deployment, token: str) -> None:
    with ChatClient(chat.url(), token) as client:
        reply = client.ask("hello", "m1")
    later = poll(chat.url(1), token, "m1", 20).json()
    assert [frame["type"] for frame in later["frames"]] == ["session", "message"]
    began = time.monotonic()
    nothing = poll(chat.url(1), token, later["after"], 0.3)
    assert time.monotonic() - began >= 0.3
    assert nothing.json() == {"after": later["after"], "frames": []}
    found: list[list[str]] = []

    def wait_for_another() -> None:
        found.append([frame["id"] for frame in poll(chat.url(1), token, reply["id"], 20).json()["frames"][1:]])

    waiting = threading.Thread(target=wait_for_another)
    waiting.start()
    eventually(lambda: _connections(chat, token), what="the poll is connected")
    post(chat.url(0), token, {"type": "message", "msg": "more", "id": "m2"})
    waiting.join()
    assert [ids[0] for ids in found] == ["m2"]


@pytest.mark.parametrize("wait", ["x", "-1", "nan"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(chat: Deployment, token: str, wait: str) -> None:
    answer = requests.get(chat.url() + "/messages", params={"token": token, "wait": wait}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_wait")


def test_after_redis_lost_what_a_client_had_it_is_not_recovered(chat: Deployment, token: str) -> None:
    position, event, *rest = poll(chat.url(), token).json()["after"].split(".")
    ahead = ".".join((position, str(int(event) + 1), *rest))
    session, *_ = poll(chat.url(), token, ahead, 20).json()["frames"]
    assert (session["type"], session["recovered"]) == ("session", False)


@pytest.mark.parametrize("path", ["/events", "/messages"])
@pytest.mark.parametrize("token", ["", "unknown"])
def test_without_a_session_every_transport_answers_400(chat: Deployment, path: str, token: str) -> None:
    for method in ("GET", "POST") if path == "/messages" else ("GET",):
        answer = requests.request(method, chat.url() + path, params={"token": token}, data="x", timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "session_not_found")


def test_streams_and_polls_end_with_their_session(chat: Deployment, token: str) -> None:
    place = poll(chat.url(1), token).json()["after"]
    statuses: list[int] = []
    polling = threading.Thread(target=lambda: statuses.append(poll(chat.url(1), token, place, 40).status_code))
    with EventClient(chat.url(0), token) as events:
        events.until("session")
        polling.start()
        eventually(lambda: _connections(chat, token) == 2, what="both are connected")
        requests.delete(chat.url() + "/token", params={"token": token}, timeout=30)
        assert events.end() == {"code": 1008, "reason": "Session expired"}
        # Long before its time is over.
        polling.join(20)
        assert not polling.is_alive()
    assert statuses == [400]


def _connections(chat: Deployment, token: str) -> int:
    """Those of this session: others of the shared deployment may have some left."""
    return int(chat.client.hlen(session_keys(session_id(token)).sockets))


def test_streams_count_as_sockets_of_their_session(chat: Deployment, token: str) -> None:
    streams = [EventClient(chat.url(number % 2), token) for number in range(16)]
    try:
        for refused in (poll(chat.url(), token), requests.get(chat.url() + f"/events?token={token}", timeout=30)):
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
            assert int(refused.headers["Retry-After"]) > 0
    finally:
        for stream in streams:
            stream.close()
    eventually(lambda: poll(chat.url(), token).status_code == 200, what="closed streams make room")


@pytest.fixture(scope="module")
def pinging(model: ModelServer) -> Iterator[Deployment]:
    """One web process with frequent pings, which the last test stops."""
    with Deployment(model.url, workers=0, ping_interval=0.3) as deployment:
        yield deployment


def test_unanswered_pings_close_the_socket(pinging: Deployment) -> None:
    with ChatClient(pinging.url()) as client:
        client.receive()
        # The client library would answer pings while it reads.
        client.ws.ping = client.ws.pong = lambda *_: None  # type: ignore[method-assign]
        assert client.closed().code == 1008


def test_streams_and_polls_end_when_their_process_shuts_down(pinging: Deployment) -> None:
    url, token = pinging.url(), str(new_session(pinging.url())["token"])
    place = poll(url, token).json()["after"]
    answers: list[str] = []
    polling = threading.Thread(target=lambda: answers.append(poll(url, token, place, 40).text))
    with EventClient(url, token) as events:
        events.wait_for_comment()
        polling.start()
        eventually(lambda: _connections(pinging, token) == 2, what="both are connected")
        assert pinging.webs[0].stop(timeout=20) == 0
        assert events.end() == {"code": 1001, "reason": "The server is going away: reconnect"}
    polling.join()
    assert [json.loads(answer) for answer in answers] == [{"after": place, "frames": []}]
    assert not pinging.webs[0].traceback()
