"""What each failure of a model server means, and what of it may be logged."""

from __future__ import annotations

import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import get_args

import pytest

from chatbot.config import HUGGINGFACE, OPENAI_CHAT, OPENAI_COMPLETIONS
from chatbot.telemetry.counters import ModelErrorKind
from chatbot.worker.models.errors import (
    ModelError,
    ModelLoading,
    ModelUnavailable,
    PermanentModelError,
    PromptTooLong,
    RequestRefused,
    TransientModelError,
)
from devtools.fake_model import ModelServer
from devtools.harness.ports import free_port
from tests.support.models import ModelFactory, answer, answering, ask, at


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
        ("html", "server_error", ModelUnavailable),
        ("html_200", "bad_answer", TransientModelError),
        ("empty_list", "bad_answer", TransientModelError),
        ("broken_json", "bad_answer", TransientModelError),
        ("error_in_stream", None, TransientModelError),
        ("cut_stream", None, TransientModelError),
        ("silent", "timeout", TransientModelError),
        ("silent_stream", "timeout", TransientModelError),
        ("redirect", "redirect", PermanentModelError),
    ],
)
def test_each_failure_has_its_type_and_kind(
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
    # The next question is answered, whether the connection was reused or closed.
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


def test_retry_after_may_be_a_date() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    refused = answer("429 Too Many Requests", "{}", "application/json", f"Retry-After: {when}")
    with answering(refused) as url, pytest.raises(TransientModelError) as caught:
        ask(at(url), "hello")
    assert caught.value.retry_after is not None
    assert 20 < caught.value.retry_after <= 30


def test_an_unknown_model_name_is_an_error_of_its_own() -> None:
    body = json.dumps({"error": {"message": "The model `gpt-k` does not exist.", "type": "NotFoundError"}})
    with answering(answer("404 Not Found", body)) as url, pytest.raises(PermanentModelError, match="check MODEL_NAME"):
        ask(at(f"{url}/v1/completions", OPENAI_COMPLETIONS), "hello")


@pytest.mark.parametrize("in_loop", [True, False])
@pytest.mark.parametrize(
    ("url", "error"),
    # The first is what a server that restarts looks like: it gets the patience of loading.
    [("http://127.0.0.1:9/v1", ModelUnavailable), ("http://no-such-host.invalid/v1", TransientModelError)],
)
def test_a_missing_server_is_a_transient_failure(url: str, error: type[ModelError], in_loop: bool) -> None:
    with pytest.raises(TransientModelError, match="connection") as caught:
        ask(at(url, OPENAI_CHAT, in_loop=in_loop), "hello")
    assert type(caught.value) is error
    assert caught.value.public == "The model's server cannot be reached. You can try again in a while."


def test_the_user_learns_what_went_wrong_and_whether_trying_again_may_help() -> None:
    sentences = {kind: PermanentModelError(kind, "").public for kind in get_args(ModelErrorKind)}
    for kind in ("unauthorized", "credits", "no_such_model", "not_found", "redirect", "address"):
        assert sentences[kind].split(". ")[1].startswith("Its operator must"), kind
    for kind in ("connection", "timeout", "tls", "busy", "rate_limited", "internal", "server_error"):
        assert "You can try again" in sentences[kind], kind
    assert PromptTooLong("too_long", "").public == "This message is too long for the model."


@pytest.mark.parametrize("loading_timeout", [1.0, 300.0])
def test_a_server_without_tls_that_waits_is_named_as_such(make: ModelFactory, loading_timeout: float) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        model = make(url, connect_timeout=0.3, loading_timeout=loading_timeout)
        with pytest.raises(TransientModelError, match="no TLS handshake within MODEL_CONNECT_TIMEOUT"):
            ask(model, "hello")


def test_a_tls_connection_that_is_cut_is_a_transient_failure() -> None:
    with answering(b"") as url, pytest.raises(TransientModelError, match="connection"):
        ask(at(url.replace("http:", "https:")), "hello")


def test_a_server_without_tls_is_a_permanent_failure(make: ModelFactory) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PermanentModelError, match=r"tls: .*; does the server use TLS\?"):
            ask(make(f"https://127.0.0.1:{plain.getsockname()[1]}"), "hello")
        thread.join()


@pytest.mark.parametrize("api", [HUGGINGFACE, OPENAI_COMPLETIONS, OPENAI_CHAT])
def test_an_errors_code_type_and_length_are_logged_and_its_text_is_not(api: str) -> None:
    said = "my diary of the 7th of May"
    text = f"the token hf_secret-secret of ?key=k-e-y may not ask Human: {said}"
    error = {"message": text, "type": "BadRequestError", "code": "invalid_value"}
    body = json.dumps({"error": error, "detail": [{"input": said}]})
    with answering(answer("400 Bad Request", body)) as url:
        address = f"{url.replace('//', '//ada:pass-word@')}/v1?key=k-e-y"
        with pytest.raises(RequestRefused) as caught:
            ask(at(address, api, token="hf_secret-secret"), said)
    assert str(caught.value) == (
        f"refused: 400: BadRequestError, invalid_value, error text of {len(text)} characters; check MODEL_NAME; "
        f"`flask --app wsgi model-check` shows error texts (asked {url}/v1)"
    )
    assert caught.value.server_text == text


@pytest.mark.parametrize("status", ["200 OK", "422 Unprocessable Entity", "500 Internal Server Error"])
@pytest.mark.parametrize(
    "quote",
    [
        "my diary",
        "bad Basic YWRhOnBhc3Mtd29yZA==",
        "diary" * 13,
        ["diary"],
        {"my": "diary"},
        "sk-diary",
        "diary123456YWRhabcde",
    ],
)
def test_a_code_or_type_that_is_not_a_short_identifier_is_not_logged(status: str, quote: object) -> None:
    body = json.dumps(
        {"error": {"message": quote, "type": quote, "code": quote}, "error_type": quote, "message": quote}
    )
    with answering(answer(status, body)) as url, pytest.raises(ModelError) as caught:
        ask(at(f"{url}/"), "my diary")
    assert "diary" not in str(caught.value)
    assert "YWRh" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        b"what the server wrote\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://host/what+the+server+wrote?key=k-e-y\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: what the server wrote\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nwhat the server wrote\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nwhat the server wrote",
        b"HTTP/1.1 200 what the server wrote\r\nContent-Length: what the server wrote\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nwhat the server wrote\r\n\r\n",
    ],
)
def test_no_text_of_a_broken_response_is_logged(reply: bytes) -> None:
    with answering(reply) as url, pytest.raises(ModelError) as caught:
        ask(at(f"{url.replace('//', '//ada:pass-word@')}/?key=k-e-y"), "hello")
    for secret in ("wrote", "k-e-y", "pass-word"):
        assert secret not in str(caught.value)


def test_no_text_of_a_broken_reply_is_logged() -> None:
    secret = "what the model said"
    event = f'data: {{"choices": [{{"text": "{secret}\n\n'
    for body, kind in ((f'{{"generated_text": "{secret}', "application/json"), (event, "text/event-stream")):
        with answering(answer("200 OK", body, kind)) as url, pytest.raises(TransientModelError) as caught:
            ask(at(url), "hello")
        assert secret not in str(caught.value)
