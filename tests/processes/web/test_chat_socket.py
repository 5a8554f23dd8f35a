"""The frames of `/chat`, against real processes."""

import json
import re

import pytest
import websocket

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, Closed, history, new_session
from devtools.harness.deployment import Deployment, eventually

RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")


def test_the_first_frame_is_the_session(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        frame = client.receive()
    assert frame["type"] == "session"
    assert frame["name"] == "Ada"
    assert RFC3339_UTC.match(frame["session_start"])
    assert frame["expires_in"] == 3600
    assert frame["recovered"] is None
    assert frame["pending"] == []


def test_plain_text_is_a_message_and_gets_its_reply(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.send_text("hello there")
        assert client.receive()["type"] == "session"
        ack = client.receive()
        assert ack["type"] == "ack"
        reply = client.until("message")
    assert reply["source"] == "bot"
    assert reply["reply_to"] == ack["id"]
    assert reply["finish_reason"] in ("stop", "length")
    assert reply["msg"].startswith("You said: hello there")
    assert RFC3339_UTC.match(reply["timestamp"])


@pytest.mark.parametrize(
    "text", ["[1, 2]", '"quoted"', "{not json", "7", "null", "{'a': 1}", "<b>&amp;</b>", "👋 שלום"]
)
def test_text_other_than_a_json_object_is_a_message_as_typed(chat: Deployment, text: str) -> None:
    with ChatClient(chat.url()) as client:
        client.send_text(text)
        client.until("message")
        assert history(chat.url(), client.token)[0]["msg"] == text


def test_the_deltas_put_together_are_the_reply(chat: Deployment, model: ModelServer) -> None:
    model.control(interval=60, tokens=12)
    with ChatClient(chat.url()) as client:
        client.send("tell me more", "m1")
        client.until("ack", id="m1")
        while not client.of_type("message"):
            frame = client.receive()
            if frame["type"] == "message":
                break
            assert frame["type"] == "delta"
            assert frame["reply_to"] == "m1"
            assert frame["offset"] + len(frame["msg"]) == len(client.text[frame["id"]])
            streamed = client.text[frame["id"]]
        deltas = client.of_type("delta")
        assert len(deltas) >= 6
        assert streamed == frame["msg"]
        assert {delta["id"] for delta in deltas} == {frame["id"]}


def test_offsets_count_code_points(chat: Deployment, model: ModelServer) -> None:
    model.control(interval=60)
    with ChatClient(chat.url()) as client:
        client.send("!say=👩🏽‍🚀 à bientôt 🎉 שלום עולם 👍", "m1")
        reply = client.until("message")
    assert reply["msg"] == "👩🏽‍🚀 à bientôt 🎉 שלום עולם 👍"
    for delta in client.of_type("delta"):
        assert reply["msg"][delta["offset"] :].startswith(delta["msg"])


def test_the_same_id_again_is_not_a_second_message(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.receive()
        reply = client.ask("once", "m1")
        client.send("once", "m1")
        assert client.receive() == {"type": "ack", "id": "m1", "parent": None}
        assert client.receive() == reply
        assert [m["id"] for m in history(chat.url(), client.token)] == ["m1", reply["id"]]


def test_the_id_of_a_reply_is_no_id_for_a_message(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        reply = client.ask("once", "m1")
        client.send("mine now", reply["id"])
        assert client.until("error")["code"] == "invalid_id"


@pytest.mark.parametrize(
    ("text", "code", "about"),
    [
        ("", "empty_message", None),
        (" \n\t ", "empty_message", None),
        ('{"type": "message", "msg": "  ", "id": "a1"}', "empty_message", "a1"),
        ("x" * 8001, "message_too_long", None),
        ('{"type": "message", "msg": "x", "id": ""}', "invalid_id", None),
        ('{"type": "message", "msg": "x", "id": "a b"}', "invalid_id", None),
        ('{"type": "message", "msg": "x", "id": "a\\n"}', "invalid_id", None),
        ('{"type": "message", "msg": "x", "id": 7}', "invalid_id", None),
        (json.dumps({"type": "message", "msg": "x", "id": "i" * 65}), "invalid_id", None),
        ('{"type": "message", "id": "a2"}', "invalid_frame", "a2"),
        ('{"type": "message", "msg": 5, "id": "a3"}', "invalid_frame", "a3"),
        ('{"type": "message", "msg": null}', "invalid_frame", None),
        ('{"type": "message", "msg": "\\ud800"}', "invalid_frame", None),
        ("{}", "invalid_frame", None),
        ('{"type": 3}', "invalid_frame", None),
        ('{"a":' * 5000 + "1" + "}" * 5000, "invalid_frame", None),
        ('{"type": "dance"}', "unknown_type", None),
        ('{"type": "stop"}', "nothing_to_stop", None),
        ('{"type": "retry", "id": "never-sent"}', "not_retryable", "never-sent"),
        ('{"type": "retry"}', "invalid_id", None),
    ],
)
def test_a_bad_frame_gets_its_error_and_the_socket_stays_open(
    chat: Deployment, text: str, code: str, about: str | None
) -> None:
    with ChatClient(chat.url()) as client:
        client.receive()
        client.send_text(text)
        frame = client.receive()
        assert set(frame) == {"type", "code", "message", "id", "retry_after"}
        assert (frame["type"], frame["code"], frame["id"]) == ("error", code, about)
        assert "Traceback" not in frame["message"]
        client.send_text("still here?")
        assert client.receive()["type"] == "ack"


def test_a_binary_frame_gets_an_error(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.receive()
        client.ws.send_binary(b"\x00\x01")
        assert client.receive()["code"] == "binary_not_supported"


def test_a_frame_of_70_kb_closes_with_1009(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.receive()
        client.send_text("x" * 70_000)
        assert client.closed().code == 1009


def test_a_frame_of_70_kb_in_fragments_closes_with_1009(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.receive()
        frame = websocket.ABNF.create_frame("x" * 35_000, websocket.ABNF.OPCODE_TEXT, fin=0)
        client.ws.send_frame(frame)
        client.ws.send_frame(websocket.ABNF.create_frame("x" * 35_000, websocket.ABNF.OPCODE_CONT, fin=1))
        assert client.closed().code == 1009


def test_text_that_is_not_utf8_closes_with_1007(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.receive()
        client.ws.send(b"\xff\xfe\xfd", websocket.ABNF.OPCODE_TEXT)
        assert client.closed().code == 1007


@pytest.mark.parametrize("token", ["", "made-up", "x" * 4000])
def test_a_bad_token_is_closed_with_1008_after_the_handshake(chat: Deployment, token: str) -> None:
    client = ChatClient(chat.url(), token)
    closed = client.closed()
    assert client.frames == []
    assert (closed.code, closed.reason) == (1008, "Session not authenticated or expired token")


def test_the_token_may_come_in_the_header(chat: Deployment) -> None:
    token = new_session(chat.url())["token"]
    with ChatClient(chat.url(), "", header=[f"Authorization: Bearer {token}"]) as client:
        assert client.receive()["type"] == "session"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_gets_403_before_the_handshake(chat: Deployment, origin: str) -> None:
    token = new_session(chat.url())["token"]
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        ChatClient(chat.url(), token, origin=origin)
    assert refused.value.status_code == 403


def test_a_page_of_the_same_origin_may_connect(chat: Deployment) -> None:
    with ChatClient(chat.url(), origin=chat.url()) as client:
        assert client.receive()["type"] == "session"


def test_a_ninth_unanswered_message_is_refused_and_may_be_sent_again(chat: Deployment, model: ModelServer) -> None:
    model.control(first=2000)
    with ChatClient(chat.url()) as client:
        client.receive()
        for number in range(9):
            client.send(f"question {number}", f"m{number}")
        error = client.until("error")
        assert (error["code"], error["id"]) == ("too_many_pending", "m8")
        assert [frame["id"] for frame in client.of_type("ack")] == [f"m{n}" for n in range(8)]
        model.control(first=0)
        client.until("message", reply_to="m7")
        assert client.ask("question 8", "m8")["reply_to"] == "m8"


def test_messages_differ_in_id_and_time(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        for number in range(3):
            client.ask(f"question {number}")
        messages = history(chat.url(), client.token)
    assert [m["source"] for m in messages] == ["human", "bot"] * 3
    assert len({m["id"] for m in messages}) == 6
    assert len({m["timestamp"] for m in messages}) == 6
    assert [m["timestamp"] for m in messages] == sorted(m["timestamp"] for m in messages)
    for message in messages:
        assert set(message) - {"usage"} == {"id", "source", "msg", "timestamp", "reply_to", "finish_reason", "parent"}
        assert "Human:" not in message["msg"]
        assert "Bot:" not in message["msg"]


def test_a_stored_session_is_one_json_document(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.ask("keep this")
    documents = [
        json.loads(chat.client.execute_command("JSON.GET", key)) for key in chat.client.scan_iter("chat:*:session")
    ]
    found = [d for d in documents if any(m["msg"] == "keep this" for m in d["messages"])]
    assert [set(document) for document in found] == [{"name", "session_start", "messages"}]


def test_a_session_ends_after_its_time_while_connected(model: ModelServer) -> None:
    with Deployment(model.url, session_ttl=2) as short, ChatClient(short.url()) as client:
        assert client.receive()["expires_in"] <= 2
        client.ask("my last words")
        closed = client.closed()
        assert (closed.code, closed.reason) == (1008, "Session expired")
        again = ChatClient(short.url(), client.token)
        assert again.closed().reason == "Session not authenticated or expired token"
        # No key of the session is left.
        eventually(lambda: not list(short.client.scan_iter("chat:{*")))


def test_closing_is_clean_from_the_clients_side(chat: Deployment) -> None:
    with ChatClient(chat.url()) as client:
        client.receive()
        client.ws.send_close(1000)
        with pytest.raises(Closed) as closed:
            client.receive()
        assert closed.value.code == 1000
