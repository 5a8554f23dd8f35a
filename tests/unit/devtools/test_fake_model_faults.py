"""The fake model server fails as ordered, keeps to its pace, records requests, and ends with its parent."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from devtools.fake_model import ModelServer, Record
from tests.unit.devtools.asker import Asker, events, prompt

LONG = 3_600_000  # milliseconds: a token that does not come during a test
DETECTED = 0.25  # seconds: a disconnect is detected in about 1 ms, but the machine may be busy


def ended(records: list[Record]) -> bool:
    return bool(records) and all(record.outcome for record in records)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        ("loading", 503, "Model EleutherAI/gpt-j-6B is currently loading"),
        ("loading_no_estimate", 503, "Model EleutherAI/gpt-j-6B is currently loading"),
        ("loading_200", 200, "Model EleutherAI/gpt-j-6B is currently loading"),
        ("rate_limited", 429, "Rate limit reached"),
        ("unauthorized", 401, "Invalid username or password"),
        ("bad_request", 400, "the token seems invalid"),
        ("credits", 402, "monthly included credits"),
        ("invalid", 422, "Input validation error"),
        ("failed_dependency", 424, "Request failed during generation"),
        ("server_error", 500, "Incomplete generation"),
    ],
)
def test_a_failure_has_the_status_and_shape_of_the_real_one(
    any_protocol: Asker, fault: str, status: int, message: str, stream: bool
) -> None:
    answer = any_protocol.post(f"!fault={fault}", stream=stream)
    body = answer.json()
    error = body["error"] if any_protocol.protocol == "tgi" else body["error"]["message"]
    assert answer.status_code == status
    assert message in error
    assert body.get("estimated_time") == (0.5 if fault in ("loading", "loading_200") else None)
    assert answer.headers.get("retry-after") == ("1" if fault == "rate_limited" else None)
    (record,) = any_protocol.server.requests()
    assert (record.fault, record.outcome, record.status) == (fault, "fault", status)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "kind", "beginning"),
    [
        ("unauthorized_plain", 401, "text/plain", "Unauthorized"),
        ("html", 502, "text/html", "<html>"),
        ("html_200", 200, "text/html", "<html>"),
        ("empty_list", 200, "application/json", "[]"),
    ],
)
def test_some_faults_are_the_same_for_every_protocol(
    *, any_protocol: Asker, fault: str, status: int, kind: str, beginning: str, stream: bool
) -> None:
    answer = any_protocol.post(f"!fault={fault}", stream=stream)
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
    assert answer.text.startswith(beginning)


def test_a_redirect_leads_to_the_address_that_is_set(any_protocol: Asker) -> None:
    answer = any_protocol.post("!fault=redirect")
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:9/")
    any_protocol.server.fault("redirect", to="http://127.0.0.1:10/there")
    assert any_protocol.post("hi").headers["location"] == "http://127.0.0.1:10/there"


def test_broken_json_cannot_be_read(any_protocol: Asker) -> None:
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        any_protocol.post("!fault=broken_json").json()
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        events(any_protocol.post("!fault=broken_json", stream=True))


def test_a_reply_can_fail_to_be_utf8(any_protocol: Asker) -> None:
    for stream in (False, True):
        with pytest.raises(UnicodeDecodeError):
            any_protocol.post("!fault=not_utf8", stream=stream).content.decode("utf-8")


def test_an_error_can_come_after_three_tokens_of_a_stream(any_protocol: Asker) -> None:
    *first, last = events(any_protocol.post("!fault=error_in_stream !tokens=2", stream=True))
    assert len([event for event in first if any_protocol.chunk(event)]) == 3
    if any_protocol.protocol == "tgi":
        assert last["error_type"] == "generation"
        assert "during generation" in last["error"]
    else:
        assert "during generation" in last["error"]["message"]
    assert any_protocol.post("!fault=error_in_stream").status_code == 424


@pytest.mark.parametrize("after", [0, 3, 30])
def test_a_stream_can_be_cut_after_some_tokens(any_protocol: Asker, after: int) -> None:
    any_protocol.server.fault("cut_stream", after=after)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        events(any_protocol.post("hi", stream=True))
    (record,) = any_protocol.server.wait_until(ended)
    assert (record.tokens, record.outcome) == (after, "fault")


def test_a_whole_reply_can_be_cut(any_protocol: Asker) -> None:
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        any_protocol.post("!fault=cut_stream")


def test_a_stream_can_be_endless(any_protocol: Asker) -> None:
    any_protocol.server.control(interval=1)
    answer = any_protocol.post("!fault=endless", stream=True, stop=["w1"])
    lines = [line for line, _ in zip(answer.iter_lines(), range(100), strict=False) if line.startswith(b"data:")]
    answer.close()
    assert any_protocol.chunk(json.loads(lines[-1].removeprefix(b"data:"))).startswith(" w")
    (record,) = any_protocol.server.wait_until(ended)
    assert record.outcome == "closed_by_client"


def test_a_fault_ordered_by_text_hits_as_many_requests_as_it_says(tgi: Asker) -> None:
    texts = ["!fault=loading*2 a", "!fault=loading*2 a", "!fault=loading*2 b", "!fault=loading*2 a"]
    assert [tgi.post(text).status_code for text in texts] == [503, 503, 503, 200]
    assert tgi.reply("!fault=loading*2 a") == "You said: !fault=loading*2 a ."


def test_a_fault_ordered_for_all_hits_as_many_requests_as_it_says(tgi: Asker) -> None:
    tgi.server.fault("server_error", count=2)
    assert [tgi.post("hi").status_code for _ in range(3)] == [500, 500, 200]
    tgi.server.fault("server_error")
    assert [tgi.post("hi").status_code for _ in range(3)] == [500, 500, 500]
    tgi.server.fault(None)
    assert tgi.post("hi").status_code == 200


def test_a_fault_that_does_not_exist_is_refused(tgi: Asker) -> None:
    with pytest.raises(ValueError, match="no such fault: flood"):
        tgi.server.fault("flood")
    with pytest.raises(ValueError, match="no such setting: fautl"):
        tgi.server.control(fautl="loading")
    assert tgi.post("!fault=flood").status_code == 400


@contextlib.contextmanager
def ask(server: ModelServer, path: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(raw(path, body))
        yield connection


def raw(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: model\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def receive_until(connection: socket.socket, end: bytes) -> bytes:
    found = b""
    while end not in found:
        data = connection.recv(65536)
        assert data, f"closed after {found!r}"
        found += data
    return found


def test_tokens_come_at_the_ordered_pace(any_protocol: Asker) -> None:
    any_protocol.server.control(first=60, interval=10)
    any_protocol.chunks("!tokens=5")
    (record,) = any_protocol.server.requests()
    assert record.first_at is not None
    assert record.last_at is not None
    assert record.first_at - record.arrived_at >= 0.06
    assert record.last_at - record.arrived_at >= 0.1


def test_a_whole_reply_takes_as_long_as_a_streamed_one(any_protocol: Asker) -> None:
    any_protocol.reply("!first=60 !interval=10 !tokens=5")
    (record,) = any_protocol.server.requests()
    assert record.last_at is not None
    assert record.last_at - record.arrived_at >= 0.1


def test_a_token_is_sent_at_once_and_alone(tgi: Asker) -> None:
    path, body = tgi.body(f"!interval={LONG}", stream=True)
    with ask(tgi.server, path, body) as connection:
        received = receive_until(connection, b"\n\n\r\n")
        assert received.count(b'"index"') == 1
        (record,) = tgi.server.requests()
        assert (record.tokens, record.outcome) == (1, None)


def test_the_headers_of_a_stream_do_not_wait_for_the_first_token(tgi: Asker) -> None:
    path, body = tgi.body(f"!first={LONG}", stream=True)
    with ask(tgi.server, path, body) as connection:
        assert b"200 OK" in receive_until(connection, b"\r\n\r\n")


def test_a_request_is_recorded_with_all_that_was_sent(any_protocol: Asker) -> None:
    path, body = any_protocol.body("hi", stop=["\nHuman:"], stream=True)
    before = time.time()
    headers = {"Authorization": "Bearer hf_secret"}
    any_protocol.http.post(any_protocol.server.url + path + "?x=1", json=body, headers=headers)
    (record,) = any_protocol.server.requests()
    assert (record.method, record.path, record.body, record.stream) == ("POST", path, body, True)
    assert record.headers["authorization"] == "Bearer hf_secret"
    assert record.prompt == (None if any_protocol.protocol == "chat" else prompt("hi"))
    assert record.messages == body.get("messages")
    assert (record.status, record.fault, record.outcome, record.tokens) == (200, None, "done", 4)
    assert record.ended_at is not None
    assert record.first_at is not None
    assert record.last_at is not None
    assert before <= record.arrived_at <= record.first_at <= record.last_at <= record.ended_at


def test_numbers_continue_when_the_records_are_deleted(tgi: Asker) -> None:
    tgi.post("one")
    tgi.post("two")
    first, second = tgi.server.requests()
    assert second.number == first.number + 1
    assert tgi.server.requests(since=first.number) == [second]
    tgi.server.reset()
    assert tgi.server.requests() == []
    tgi.post("three")
    assert [record.number for record in tgi.server.requests()] == [second.number + 1]


@pytest.mark.parametrize("order", [f"!first={LONG}", f"!interval={LONG}", "!fault=silent", "!fault=silent_stream"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_disconnect_is_detected_at_once(any_protocol: Asker, order: str, stream: bool) -> None:
    server = any_protocol.server
    path, body = any_protocol.body(order, stream=stream)
    with ask(server, path, body):
        begins = stream and "first" not in order and order != "!fault=silent"
        server.wait_until(lambda records: not begins or records[0].first_at is not None)
        closed_at = time.time()
    (record,) = server.wait_until(ended)
    assert record.outcome == "closed_by_client"
    assert record.ended_at is not None
    assert record.ended_at - closed_at < DETECTED


def test_without_recording_only_counts_are_stored(http: requests.Session) -> None:
    with ModelServer(record=False, tokens=6) as server:
        assert Asker(http, server, "tgi").reply("hi") == "You said: hi . w1 w2"
        (record,) = server.requests()
        assert (record.body, record.prompt, record.headers) == (None, None, {})
        assert (record.tokens, record.outcome) == (6, "done")


def test_a_server_comes_back_at_the_same_address() -> None:
    with ModelServer() as server:
        url, pid = server.url, server.pid
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            server.requests()
        server.start()
        assert (server.url, server.requests()) == (url, [])
        assert server.pid != pid


def test_a_server_ends_with_the_process_that_started_it() -> None:
    code = "import devtools.fake_model as m; print(m.ModelServer().start().port, flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as starter:
        assert starter.stdout is not None
        port = int(starter.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            starter.kill()
            with contextlib.suppress(ConnectionResetError):  # if it was not even accepted
                assert connection.recv(1) == b"", "the end of the server closes its connections"
