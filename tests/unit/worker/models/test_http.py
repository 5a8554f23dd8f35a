"""The HTTP client: connection reuse, compressed streams, cancelling."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import zlib

import pytest

from chatbot.config import HUGGINGFACE, OPENAI_CHAT
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled
from devtools.fake_model import ModelServer
from devtools.harness.ports import free_port
from tests.support.models import ModelFactory, answering, ask, at


def test_the_token_is_sent_with_every_request(make: ModelFactory, model: ModelServer) -> None:
    asked = make()
    for n in range(3):
        ask(asked, f"question {n}")
    requests = model.requests()
    assert {r.headers["authorization"] for r in requests[-3:]} == {"Bearer hf_secret-secret"}


@pytest.mark.parametrize("in_loop", [False, True])
def test_proxies_may_add_many_headers(*, in_loop: bool) -> None:
    headers = "".join(f"X-Debug-{n}: {n}\r\n" for n in range(300))
    body = '[{"generated_text": "Hello."}]'
    with answering(f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()) as url:
        assert ask(at(url, in_loop=in_loop), "hi") == ("Hello.", "stop")


def test_the_connection_is_closed_when_a_model_goes_on_after_a_stop_sequence() -> None:
    sent = 0

    def talk_on() -> None:
        nonlocal sent
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode())
            for text in ("Done.", "\nHu", "man:", *[" and on"] * 5000):
                token = {"id": 1, "text": text, "special": False}
                event = f"data:{json.dumps({'token': token, 'generated_text': None})}\n\n"
                connection.sendall(f"{len(event):x}\r\n{event}\r\n".encode())
                sent += 1
                # Faster than the client waits for the end of a stream: a model that ignores `stop`.
                time.sleep(0.001)

    with socket.create_server(("127.0.0.1", free_port())) as server:
        thread = threading.Thread(target=talk_on)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        reply, _ = ask(at(url), "go on")
        thread.join()
    assert reply == "Done."
    assert sent < 1000


def test_what_a_server_sends_beyond_its_response_is_no_answer_to_the_next_request() -> None:
    def answer(text: str) -> bytes:
        body = json.dumps([{"generated_text": text}])
        return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def serve() -> None:
        for place, text in enumerate(("one", "two")):
            connection, _ = server.accept()
            connections.append(connection)
            connection.recv(65536)
            connection.sendall(answer(text))
            if place == 0:
                answered.wait(30)
                connection.sendall(answer("another user's"))
                surplus.set()

    connections: list[socket.socket] = []
    answered, surplus = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", free_port())) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        model = at(f"http://127.0.0.1:{server.getsockname()[1]}/")
        assert ask(model, "first") == ("one", "stop")
        answered.set()
        assert surplus.wait(30)
        assert ask(model, "second") == ("two", "stop")
        thread.join(10)
    for connection in connections:
        connection.close()


def test_the_server_gets_the_requests_id_in_a_header_of_any_name(make: ModelFactory, model: ModelServer) -> None:
    ask(make(), "one", Call(30, "session:one"))
    ask(make(request_id_header="X-Trace"), "two", Call(30, "session:two"))
    ask(make(request_id_header=""), "three", Call(30, "session:three"))
    first, second, third = (request.headers for request in model.requests())
    assert first["x-request-id"] == "session:one"
    assert second["x-trace"] == "session:two"
    assert "session:" not in str(third)


@pytest.mark.parametrize("api", [HUGGINGFACE, OPENAI_CHAT])
def test_a_stream_that_a_proxy_compressed_is_read(api: str) -> None:
    events = [
        {"token": {"text": "Hi"}, "choices": [{"delta": {"content": "Hi"}}]},
        {"token": {"text": "."}, "generated_text": "Hi.", "choices": [{"delta": {"content": "."}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]
    packer = zlib.compressobj(wbits=31)
    chunks = [packer.compress(f"data: {json.dumps(e)}\n\n".encode()) + packer.flush(zlib.Z_SYNC_FLUSH) for e in events]
    chunks.append(packer.flush())
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked"
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    with answering(f"{head}\r\n\r\n".encode() + body) as url:
        assert ask(at(url + "/", api), "hello") == ("Hi.", "stop")


def test_a_request_on_a_reused_connection_that_the_server_has_closed_is_sent_again() -> None:
    body = json.dumps({"generated_text": "Hi."}).encode()
    kept = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    asked: list[bytes] = []

    def serve() -> None:
        for requests in (2, 1):
            connection, _ = server.accept()
            with connection:
                for number in range(requests):
                    asked.append(connection.recv(65536))
                    if number == 0:
                        connection.sendall(kept)

    with socket.create_server(("127.0.0.1", free_port())) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        model = at(f"http://127.0.0.1:{server.getsockname()[1]}/")
        # The second request goes out on the first one's connection, which is closed instead of an answer.
        assert ask(model, "one") == ask(model, "two") == ("Hi.", "stop")
        thread.join()
    assert len(asked) == 3


def test_a_stream_that_never_ends_is_ended_at_the_deadline(make: ModelFactory, model: ModelServer) -> None:
    begun = time.monotonic()
    call = Call(0.5)
    timer = threading.Timer(0.5, call.cancel, ["deadline"])
    timer.start()
    with pytest.raises(CallCancelled, match="deadline"):
        ask(make(), "!fault=endless go on", call)
    assert time.monotonic() - begun < 30
    model.wait_until(lambda records: all(r.outcome for r in records))
    timer.join()


@pytest.mark.parametrize("when", ["before the first token", "in the middle"])
def test_a_cancelled_call_ends_at_once_and_the_server_sees_the_connection_close(
    make: ModelFactory, model: ModelServer, when: str
) -> None:
    if when == "in the middle":
        model.control(interval=100, tokens=100)
    else:
        model.control(first=30_000)
    call = Call(60)
    begun = model.requests()[-1].number if model.requests() else 0

    def cancel() -> None:
        model.wait_until(lambda r: r[-1].first_at is not None or when.startswith("before"), since=begun)
        call.cancel("stop")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CallCancelled):
        ask(make(max_new_tokens=1000), "go on", call)
    thread.join()
    records = model.wait_until(lambda r: r[-1].outcome == "closed_by_client", since=begun)
    assert len(records) == 1


def test_a_call_cancelled_before_it_began_is_not_made(make: ModelFactory, model: ModelServer) -> None:
    call = Call(60)
    call.cancel("stop")
    with pytest.raises(CallCancelled):
        ask(make(), "never asked", call)
    assert model.requests() == []
