"""The loop in whose thread a worker's model calls run."""

from __future__ import annotations

import contextvars
import json
import socket
import threading
import time
from functools import partial

import pytest

from chatbot.config import OPENAI_CHAT
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled
from chatbot.worker.models.event_loop import ModelLoop, outside
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer
from devtools.harness.ports import free_port
from tests.support.byte_server import byte_server, response
from tests.support.models import ModelFactory, ask, at

name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
#: Seconds in which the model server sees that a call was ended.
SEEN_WITHIN = 0.2


@pytest.fixture(scope="module")
def loop() -> ModelLoop:
    return ModelLoop(20)


def test_a_call_runs_in_the_loops_thread_with_the_callers_context(loop: ModelLoop) -> None:
    name.set("caller")
    assert loop.run(lambda: (threading.current_thread().name, name.get())) == ("model-streams", "caller")


def test_what_blocks_runs_in_another_thread_with_the_callers_context(loop: ModelLoop) -> None:
    name.set("caller")
    thread, found = loop.run(lambda: outside(lambda: (threading.current_thread().name, name.get())))
    assert (thread.startswith("model-helper"), found) == (True, "caller")


def test_elsewhere_it_runs_at_once() -> None:
    assert outside(threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize("outside", [False, True])
def test_an_exception_is_raised_where_the_result_is_awaited_and_the_loop_goes_on(
    loop: ModelLoop, outside: bool
) -> None:
    with pytest.raises(ZeroDivisionError):
        loop.run(lambda: loop.outside(lambda: 1 // 0) if outside else 1 // 0)
    assert loop.run(lambda: 1) == 1


def test_a_step_that_fails_does_not_end_the_loop(loop: ModelLoop, caplog: pytest.LogCaptureFixture) -> None:
    loop.post(lambda: 1 // 0)
    assert loop.run(lambda: 1) == 1
    assert "reading from the model servers failed" in caplog.text


def test_calls_that_wait_do_not_hold_each_other(loop: ModelLoop) -> None:
    # Each waits until all others have begun.
    barrier = threading.Barrier(20, timeout=10)
    results: list[int] = []

    def call(number: int) -> None:
        results.append(loop.run(lambda: loop.outside(lambda: (barrier.wait(), number)[1])))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(20))


def test_a_model_server_sees_at_once_that_a_call_was_ended(make: ModelFactory, model: ModelServer) -> None:
    model.control(interval=100, tokens=100)
    # The machine may be busy, but not every time.
    assert any(_seen_after(make, model) < SEEN_WITHIN for _ in range(5))


def _seen_after(make: ModelFactory, model: ModelServer) -> float:
    """Seconds from the end of a call until the model server sees it."""
    call, ended = Call(60), []
    begun = model.requests()[-1].number if model.requests() else 0

    def cancel() -> None:
        model.wait_until(lambda r: r[-1].first_at is not None, since=begun)
        ended.append(time.monotonic())
        call.cancel("stop")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CallCancelled):
        ask(make(max_new_tokens=1000), "go on", call)
    model.wait_until(lambda r: r[-1].outcome == "closed_by_client", since=begun)
    seen = time.monotonic()
    thread.join()
    return seen - ended[0]


def test_a_reply_does_not_wait_for_the_next_chunk_while_something_of_the_last_one_is_unread(loop: ModelLoop) -> None:
    events = [{"reasoning": "hm"}, {"content": "Hi"}]
    both = b"".join(b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": e}]}).encode() for e in events)
    texts: list[str] = []
    read_both = threading.Event()
    before_the_end: list[bool] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + both)
            before_the_end.append(read_both.wait(30))
            connection.sendall(b"data: [DONE]\n\n")

    def read(call: Call) -> None:
        call.loop = loop
        for piece in model.generate([PromptMessage("user", "hello")], call):
            texts.append(piece.reasoning + piece.text)
            if len(texts) == 2:
                read_both.set()
            if piece.finish_reason is None:
                call.wait_for_more()

    with socket.create_server(("127.0.0.1", free_port())) as server:
        model = at(f"http://127.0.0.1:{server.getsockname()[1]}/v1", OPENAI_CHAT, in_loop=False)
        thread = threading.Thread(target=serve)
        thread.start()
        loop.run(partial(read, Call(30)))
        thread.join()
    assert (texts, before_the_end) == (["hm", "Hi", ""], [True])


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_question_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, in_loop: bool) -> None:
    body = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]})
    with byte_server() as proxy, byte_server() as server:
        proxy.script(response(body))
        server.script(response(body))
        for variable in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(variable, proxy.url)
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(variable, "127.0.0.1")
        assert ask(at("http://model.invalid/v1", OPENAI_CHAT, in_loop=in_loop), "by proxy") == ("Hi", "stop")
        assert (len(proxy.requests), len(server.requests)) == (1, 0)
        assert ask(at(server.url, OPENAI_CHAT, in_loop=in_loop), "directly") == ("Hi", "stop")
        assert (len(proxy.requests), len(server.requests)) == (1, 1)
