"""One contract for every protocol, against a model server of our own; and what each failure means."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Callable

import pytest

from chatbot.config import MODEL_APIS, Settings
from chatbot.errors import CallCancelled, ModelError, ModelLoading, PermanentModelError, TransientModelError
from chatbot.worker.models import create_model
from chatbot.worker.models.base import Call, Model
from chatbot.worker.prompts import ReplyText, Turn
from tests.model_server import ModelServer

PATHS = {"huggingface": "/", "openai-completions": "/v1/completions", "openai-chat": "/v1/chat/completions"}

ModelFactory = Callable[..., Model]


@pytest.fixture(params=MODEL_APIS)
def make(request: pytest.FixtureRequest, model: ModelServer) -> ModelFactory:
    """A model of each protocol; `changes` are settings."""

    def factory(**changes: object) -> Model:
        settings = Settings(
            model_url=model.url + PATHS[request.param],
            model_api=request.param,
            model_token="hf_secret-secret",
            model_read_timeout=1.0,
            max_new_tokens=64,
        )
        return create_model(dataclasses.replace(settings, **changes))  # type: ignore[arg-type]

    return factory


def ask(model: Model, text: str, call: Call | None = None) -> tuple[str, str | None]:
    """The reply and why it ended."""
    said = ReplyText(model.stop_sequences)
    reply, reason = "", None
    pieces = model.generate([Turn("user", text)], call or Call(30))
    for piece in pieces:
        reply += said.feed(piece.text)
        reason = piece.finish_reason or reason
        if said.stopped or reason:
            break
    pieces.close()  # type: ignore[attr-defined]
    return reply + said.end(), reason


def test_a_question_gets_its_reply(make: ModelFactory) -> None:
    reply, reason = ask(make(), "what is this?")
    assert reply.startswith("You said: what is this?")
    assert reason in ("stop", "length")


def test_the_reply_comes_in_pieces(make: ModelFactory, model: ModelServer) -> None:
    model.control(interval=20)
    pieces = list(make().generate([Turn("user", "slowly")], Call(30)))
    assert len([p for p in pieces if p.text]) >= 4


def test_the_length_limit_is_told(make: ModelFactory) -> None:
    reply, reason = ask(make(max_new_tokens=3), "!tokens=50")
    assert reason == "length"
    assert len(reply.split()) <= 3


def test_sampling_is_left_to_the_server_unless_it_is_set(make: ModelFactory, model: ModelServer) -> None:
    ask(make(), "as you like")
    ask(make(temperature=0.5, top_p=0.9, seed=7), "as I like")
    ask(make(temperature=0.0), "without chance")
    bodies = [r.body.get("parameters", r.body) for r in model.requests()]
    names = ("temperature", "top_p", "seed")
    assert [bodies[0].get(name) for name in names] == [None] * 3
    assert [bodies[1].get(name) for name in names] == [0.5, 0.9, 7]
    assert bodies[2].get("temperature", 0) == 0
    assert bodies[2].get("do_sample", False) is False


def test_a_reply_without_text_is_an_empty_reply(make: ModelFactory) -> None:
    assert ask(make(), "!say= ")[0] == ""


@pytest.mark.parametrize("api", ["huggingface", "openai-completions"])
def test_a_base_model_does_not_play_the_persons_part(api: str, model: ModelServer) -> None:
    settings = Settings(model_url=model.url + PATHS[api], model_api=api, max_new_tokens=500)
    reply, _ = ask(create_model(settings), "!say=I am the bot.\\nHuman: and I am you\\nBot: indeed")
    assert reply == "I am the bot."


def test_a_model_that_goes_on_behind_a_stop_sequence_is_hung_up_on() -> None:
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
                # Faster than anybody waits for the end of a stream: a model that ignores `stop`.
                time.sleep(0.001)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=talk_on)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        reply, _ = ask(create_model(Settings(model_url=url, model_api="huggingface")), "go on")
        thread.join()
    assert reply == "Done."
    assert sent < 1000


def test_the_token_goes_to_the_server_and_the_connection_is_used_again(make: ModelFactory, model: ModelServer) -> None:
    asked = make()
    for n in range(3):
        ask(asked, f"question {n}")
    requests = model.requests()
    assert {r.headers["authorization"] for r in requests[-3:]} == {"Bearer hf_secret-secret"}


@pytest.mark.parametrize(
    ("fault", "kind", "error"),
    [
        ("loading", "loading", ModelLoading),
        ("loading_no_estimate", "loading", ModelLoading),
        ("loading_200", "loading", ModelLoading),
        ("rate_limited", "rate_limited", TransientModelError),
        ("unauthorized", "unauthorized", PermanentModelError),
        ("unauthorized_plain", "unauthorized", PermanentModelError),
        ("bad_request", "refused", PermanentModelError),
        ("credits", "credits", PermanentModelError),
        ("invalid", "refused", PermanentModelError),
        ("failed_dependency", "busy", TransientModelError),
        ("server_error", "server_error", TransientModelError),
        ("html", "server_error", TransientModelError),
        ("html_200", "bad_answer", TransientModelError),
        ("empty_list", "bad_answer", TransientModelError),
        ("broken_json", "bad_answer", TransientModelError),
        ("not_utf8", "bad_answer", TransientModelError),
        ("error_in_stream", None, TransientModelError),
        ("cut_stream", None, TransientModelError),
        ("silent", "timeout", TransientModelError),
        ("silent_stream", "timeout", TransientModelError),
        ("redirect", "redirect", PermanentModelError),
    ],
)
def test_each_failure_is_told_apart(
    make: ModelFactory, model: ModelServer, fault: str, kind: str | None, error: type[ModelError]
) -> None:
    model.fault(fault)
    with pytest.raises(ModelError) as caught:
        ask(make(), "hello")
    assert type(caught.value) is error
    if kind:
        assert caught.value.kind == kind
    assert "secret" not in str(caught.value)
    assert "hello" not in caught.value.public
    # And the next question is answered, whatever became of the connection.
    model.fault(None)
    assert ask(make(), "again")[0].startswith("You said: again")


def test_a_servers_own_estimate_is_honoured(make: ModelFactory, model: ModelServer) -> None:
    model.fault("loading", estimated_time=7.5)
    with pytest.raises(ModelLoading) as caught:
        ask(make(), "hello")
    assert caught.value.retry_after == 7.5
    model.fault("rate_limited", retry_after=3)
    with pytest.raises(TransientModelError) as limited:
        ask(make(), "hello")
    assert limited.value.retry_after == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://no-such-host.invalid/"])
def test_a_server_that_is_not_there_is_a_passing_failure(make: ModelFactory, url: str) -> None:
    with pytest.raises(TransientModelError, match="connection"):
        ask(make(model_url=url), "hello")


def test_tls_that_is_none_is_a_lasting_failure(make: ModelFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PermanentModelError, match="tls"):
            ask(make(model_url=f"https://127.0.0.1:{plain.getsockname()[1]}/"), "hello")
        thread.join()


@pytest.mark.parametrize("when", ["before the first token", "in the middle"])
def test_a_cancelled_call_ends_at_once_and_the_server_sees_it_close(
    make: ModelFactory, model: ModelServer, when: str
) -> None:
    if when == "in the middle":
        model.control(interval=100, tokens=100)
    else:
        model.control(first=30_000)
    call = Call(60)
    begun = model.requests()[-1].number if model.requests() else 0

    def cancel() -> None:
        model.wait_until(lambda r: bool(r) and (r[-1].first_at is not None or when.startswith("before")), since=begun)
        call.cancel("stop")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(CallCancelled):
        ask(make(max_new_tokens=1000), "go on", call)
    thread.join()
    records = model.wait_until(lambda r: bool(r) and r[-1].outcome == "closed_by_client", since=begun)
    assert len(records) == 1


def test_a_call_cancelled_before_it_began_is_not_made(make: ModelFactory, model: ModelServer) -> None:
    call = Call(60)
    call.cancel("stop")
    with pytest.raises(CallCancelled):
        ask(make(), "never asked", call)
    assert model.requests() == []
