"""One contract for every protocol, against a model server of our own; and what each failure means."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from chatbot.config import HUGGINGFACE, OPENAI_CHAT, OPENAI_COMPLETIONS, ModelAddress, ModelSettings, Settings
from chatbot.worker.models import create_model
from chatbot.worker.models.base import Call, Model
from chatbot.worker.models.errors import (
    CallCancelled,
    ModelError,
    ModelLoading,
    PermanentModelError,
    PromptTooLong,
    RequestRefused,
    TransientModelError,
)
from chatbot.worker.prompts import PromptMessage
from devtools.fake_model import ModelServer

#: Every address that can be posted to, and its protocol.
PATHS = {
    "/": HUGGINGFACE,
    "/generate": HUGGINGFACE,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/chat/completions": OPENAI_CHAT,
}
BASE_MODELS = [path for path, api in PATHS.items() if api != OPENAI_CHAT]

ModelFactory = Callable[..., Model]


@pytest.fixture(params=PATHS)
def make(request: pytest.FixtureRequest, model: ModelServer) -> ModelFactory:
    """A model at each address; `changes` are settings, `base` another server."""

    def factory(base: str = "", **changes: object) -> Model:
        settings = ModelSettings(
            servers=(ModelAddress((base or model.url) + request.param, PATHS[request.param]),),
            token="hf_secret-secret",
            read_timeout=1.0,
            max_new_tokens=64,
        )
        return create_model(Settings(model=dataclasses.replace(settings, **changes)))  # type: ignore[arg-type]

    return factory


def at(url: str, api: str = HUGGINGFACE, **changes: object) -> Model:
    """A model at one address."""
    return create_model(Settings(model=ModelSettings(servers=(ModelAddress(url, api),), **changes)))  # type: ignore[arg-type]


def ask(model: Model, text: str, call: Call | None = None) -> tuple[str, str | None]:
    """The reply and why it ended."""
    pieces = list(model.generate([PromptMessage("user", text)], call or Call(30)))
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    return "".join(piece.text for piece in pieces), pieces[-1].finish_reason


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that gives these answers, whatever it is asked, one to a connection; its URL."""

    def serve() -> None:
        for answer in answers:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def answer(status: str, body: str, content_type: str = "application/json", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body.encode())}", *headers]
    return "\r\n".join([*head, "Connection: close", "", body]).encode()


def test_a_question_gets_its_reply(make: ModelFactory) -> None:
    reply, reason = ask(make(), "what is this?")
    assert reply.startswith("You said: what is this?")
    assert reason in ("stop", "length")


def test_the_reply_comes_in_pieces(make: ModelFactory, model: ModelServer) -> None:
    model.control(interval=20)
    pieces = list(make().generate([PromptMessage("user", "slowly")], Call(30)))
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


@pytest.mark.parametrize("path", BASE_MODELS)
@pytest.mark.parametrize("dialect", ["", "!fault=lax "])
def test_a_base_model_does_not_play_the_persons_part(path: str, dialect: str, model: ModelServer) -> None:
    asked = at(model.url + path, PATHS[path], max_new_tokens=500)
    reply, reason = ask(asked, f"{dialect}!say=I am the bot.\\nHuman: and I am you\\nBot: indeed")
    assert (reply, reason) == ("I am the bot.", "stop")


def test_every_dialect_gets_a_reply(make: ModelFactory) -> None:
    for dialect in ("lax", "strict"):
        assert ask(make(), f"!fault={dialect} hello")[0].startswith("You said: !fault=")


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_tutorials_parameter_goes_where_it_is_known(
    make: ModelFactory, model: ModelServer, use_cache: bool
) -> None:
    ask(make(), "without")
    ask(make(use_cache=use_cache), "with")
    bodies = [r.body for r in model.requests()]
    assert "use_cache" not in json.dumps(bodies[0])
    assert ["use_cache" in json.dumps(bodies[1]), bodies[1].get("parameters", {}).get("use_cache", use_cache)] == [
        "parameters" in bodies[1],
        use_cache,
    ]


def test_generate_without_a_stream_of_its_own_is_asked_for_the_whole() -> None:
    whole = answer("200 OK", json.dumps({"generated_text": " As a whole."}))
    with answering(answer("404 Not Found", ""), whole, whole) as url:
        asked = at(f"{url}/generate")
        assert ask(asked, "hello") == ("As a whole.", "stop")
        # It is remembered: the second question takes one request.
        assert ask(asked, "hello") == ("As a whole.", "stop")


def test_a_service_that_calls_the_limit_otherwise_gets_its_name() -> None:
    told = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    refused = answer("400 Bad Request", json.dumps({"error": {"message": told, "type": "invalid_request_error"}}))
    reply = answer("200 OK", json.dumps({"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}))
    with answering(refused, reply, reply) as url:
        asked = at(f"{url}/v1/chat/completions", OPENAI_CHAT)
        assert ask(asked, "hello") == ("Hi.", "stop")
        assert ask(asked, "hello") == ("Hi.", "stop")


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
        reply, _ = ask(at(url), "go on")
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
        ("bad_request", "refused", RequestRefused),
        ("credits", "credits", PermanentModelError),
        ("invalid", "too_long", PromptTooLong),
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
    assert f"asked {model.url}/" in str(caught.value)
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


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_a_server_that_is_not_there_is_a_passing_failure(make: ModelFactory, url: str) -> None:
    with pytest.raises(TransientModelError, match="connection"):
        ask(make(url), "hello")


def test_a_stream_that_never_ends_is_ended_by_its_time(make: ModelFactory, model: ModelServer) -> None:
    begun = time.monotonic()
    call = Call(0.5)
    timer = threading.Timer(0.5, call.cancel, ["deadline"])
    timer.start()
    with pytest.raises(CallCancelled, match="deadline"):
        ask(make(), "!fault=endless go on", call)
    assert time.monotonic() - begun < 5
    model.wait_until(lambda records: all(r.outcome for r in records))
    timer.join()


@pytest.mark.parametrize("api", [HUGGINGFACE, OPENAI_COMPLETIONS, OPENAI_CHAT])
def test_what_a_server_quotes_stays_out_of_the_logs(api: str) -> None:
    said = "my diary of the 7th of May"
    quoted = json.dumps(
        {
            "error": f"the token hf_secret-secret of ?key=k-e-y may not ask Human: {said}",
            "detail": [{"input": said}],
        }
    )
    with answering(answer("400 Bad Request", quoted)) as url:
        address = f"{url.replace('//', '//ada:pass-word@')}/v1?key=k-e-y"
        with pytest.raises(RequestRefused) as caught:
            ask(at(address, api, token="hf_secret-secret"), said)
    for secret in ("hf_secret", "pass-word", "k-e-y", "diary", "May"):
        assert secret not in str(caught.value)
    assert "may not ask" in str(caught.value)


@pytest.mark.parametrize(
    "echo",
    [
        "bad Basic YWRhOnBhc3Mtd29yZA==",
        "x" * 284 + " hf_secret-secret",
        html.escape('you said "my diary" of the 7th of <May> & more'),
        'YOU SAID: "MY DIARY" OF THE 7TH OF <MAY> & MORE',
    ],
)
@pytest.mark.parametrize("where", ["error", "error_type"])
def test_however_a_server_quotes_it_stays_out_of_the_logs(echo: str, where: str) -> None:
    said = '"my diary" of the 7th of <May> & more'
    told = {"error": "told", where: echo}
    for status in ("200 OK", "500 Internal Server Error"):
        with answering(answer(status, json.dumps(told))) as url:
            address = url.replace("//", "//ada:pass-word@")
            with pytest.raises(ModelError) as caught:
                ask(at(f"{address}/", token="hf_secret-secret"), said)
        for secret in ("YWRhOn", "hf_s", "diary", "DIARY", "7th", "7TH"):
            assert secret not in str(caught.value)


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


def test_an_event_that_does_not_end_is_given_up() -> None:
    line = b"data: " + b"a" * 65_000 + b"\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    with answering(head + line * 200) as url, pytest.raises(PermanentModelError, match="an event is longer than"):
        ask(at(url), "hello")


def test_a_kept_connection_that_the_server_has_closed_is_no_failure() -> None:
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

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        model = at(f"http://127.0.0.1:{server.getsockname()[1]}/")
        # The second request goes out on the first one's connection, which is closed instead of an answer.
        assert ask(model, "one") == ask(model, "two") == ("Hi.", "stop")
        thread.join()
    assert len(asked) == 3


def test_a_date_may_say_when_to_ask_again() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    refused = answer("429 Too Many Requests", "{}", "application/json", f"Retry-After: {when}")
    with answering(refused) as url, pytest.raises(TransientModelError) as caught:
        ask(at(url), "hello")
    assert caught.value.retry_after is not None
    assert 20 < caught.value.retry_after <= 30


def test_what_a_server_says_instead_of_a_reply_stays_out_of_the_logs() -> None:
    secret = "what the model said"
    event = f'data: {{"choices": [{{"text": "{secret}\n\n'
    for body, kind in ((f'{{"generated_text": "{secret}', "application/json"), (event, "text/event-stream")):
        with answering(answer("200 OK", body, kind)) as url, pytest.raises(TransientModelError) as caught:
            ask(at(url), "hello")
        assert secret not in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_stream_may_begin_with_a_mark_and_end_its_lines_in_either_way(end: str) -> None:
    events = [{"token": {"text": "Hi"}}, {"token": {"text": "."}, "generated_text": "Hi."}]
    body = "\ufeff" + "".join(f": quiet{end}data:{json.dumps(event)}{end}{end}" for event in events)
    with answering(answer("200 OK", body, "text/event-stream")) as url:
        assert ask(at(url), "hello") == ("Hi.", "stop")


def test_a_server_that_waits_for_plain_text_is_told(make: ModelFactory) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(TransientModelError, match="no TLS handshake within MODEL_CONNECT_TIMEOUT"),
    ):
        ask(make(f"https://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.3), "hello")


def test_a_models_name_that_is_none_is_told() -> None:
    body = json.dumps({"error": {"message": "The model `gpt-k` does not exist.", "type": "NotFoundError"}})
    with answering(answer("404 Not Found", body)) as url, pytest.raises(PermanentModelError, match="check MODEL_NAME"):
        ask(at(f"{url}/v1/completions", OPENAI_COMPLETIONS), "hello")


def test_a_tls_connection_that_is_cut_is_a_passing_failure() -> None:
    with answering(b"") as url, pytest.raises(TransientModelError, match="connection"):
        ask(at(url.replace("http:", "https:")), "hello")


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
            ask(make(f"https://127.0.0.1:{plain.getsockname()[1]}"), "hello")
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
