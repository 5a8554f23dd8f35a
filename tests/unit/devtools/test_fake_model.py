"""The fake model server is itself held to the protocols that it speaks."""

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
from huggingface_hub import InferenceClient, errors

from devtools.fake_model import ModelServer, Record
from devtools.fake_model.orders import Order, last_human

LONG = 3_600_000  # ms: a token that is not going to come during a test
NOTICED = 0.25  # seconds: a close is noticed in about 1 ms, but the machine may be busy
STOP = "\nHuman:"


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(running: ModelServer) -> ModelServer:
    running.reset()
    return running


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy between a test and its own machine
        yield session


def prompt(text: str) -> str:
    return f"A talk.\nHuman: before\nBot: yes\nHuman: {text}\nBot:"


class Asker:
    """The same request by each protocol."""

    def __init__(self, http: requests.Session, server: ModelServer, protocol: str) -> None:
        self.http, self.server, self.protocol = http, server, protocol

    def body(self, text: str, **more: Any) -> tuple[str, dict[str, Any]]:
        if self.protocol == "chat":
            messages = [{"role": "system", "content": "A talk."}, {"role": "user", "content": text}]
            return "/v1/chat/completions", {"messages": messages} | more
        if self.protocol == "completions":
            return "/v1/completions", {"prompt": prompt(text), "max_tokens": 100} | more
        stream, parameters = more.pop("stream", False), {"return_full_text": False} | more
        return "/", {"inputs": prompt(text), "parameters": parameters, "stream": stream}

    def post(self, text: str, **more: Any) -> requests.Response:
        path, body = self.body(text, **more)
        url, streams = self.server.url + path, more.get("stream", False)
        return self.http.post(url, json=body, stream=streams, allow_redirects=False, timeout=10)

    def pieces(self, text: str, **more: Any) -> list[str]:
        return [self.piece(event) for event in events(self.post(text, stream=True, **more))]

    def piece(self, event: dict[str, Any]) -> str:
        if self.protocol == "tgi":
            return "" if event["token"]["special"] else str(event["token"]["text"])
        (choice,) = event["choices"]
        return str(choice["delta"]["content"] if self.protocol == "chat" else choice["text"])

    def reply(self, text: str, **more: Any) -> str:
        answer = self.post(text, **more).json()
        if self.protocol == "tgi":
            return str(answer[0]["generated_text"])
        (choice,) = answer["choices"]
        return str(choice["message"]["content"] if self.protocol == "chat" else choice["text"])


@pytest.fixture
def tgi(http: requests.Session, server: ModelServer) -> Asker:
    return Asker(http, server, "tgi")


@pytest.fixture(params=["completions", "chat"])
def openai(http: requests.Session, server: ModelServer, request: pytest.FixtureRequest) -> Asker:
    return Asker(http, server, request.param)


@pytest.fixture(params=["tgi", "completions", "chat"])
def any_protocol(http: requests.Session, server: ModelServer, request: pytest.FixtureRequest) -> Asker:
    return Asker(http, server, request.param)


def events(response: requests.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == "text/event-stream"
    lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith(b"data:") for line in lines)
    return [json.loads(line.removeprefix(b"data:")) for line in lines if line != b"data: [DONE]"]


def ended(records: list[Record]) -> bool:
    return bool(records) and all(record.outcome for record in records)


# What is answered


def test_a_reply_names_what_was_asked_last(any_protocol: Asker) -> None:
    assert any_protocol.reply("how are you?") == "You said: how are you? ."


def test_a_streamed_reply_is_the_whole_reply_in_pieces(any_protocol: Asker) -> None:
    pieces = any_protocol.pieces("how are you?")
    assert [piece for piece in pieces if piece] == ["You", " said:", " how", " are", " you?", " ."]


def test_what_is_not_ascii_comes_back_as_it_was(any_protocol: Asker) -> None:
    assert any_protocol.reply("Ça va 👩‍🚀?") == "You said: Ça va 👩‍🚀? ."
    assert "".join(any_protocol.pieces("Ça va 👩‍🚀?")) == "You said: Ça va 👩‍🚀? ."


def test_a_reply_is_filled_up_to_the_tokens_wanted(any_protocol: Asker) -> None:
    any_protocol.server.control(tokens=7)
    assert any_protocol.reply("hi") == "You said: hi . w1 w2 w3"
    assert len(any_protocol.reply("!tokens=40 hi").split()) == 40
    assert any_protocol.reply("one two three four five") == "You said: one two three four five ."
    assert [record.tokens for record in any_protocol.server.requests()] == [7, 40, 8]


def test_a_reply_can_be_dictated_and_comes_in_pieces_of_four_characters(any_protocol: Asker) -> None:
    assert any_protocol.reply("!say=Hello \\nworld  !") == "Hello \nworld  !"
    assert [piece for piece in any_protocol.pieces("!say=Hello world") if piece] == ["Hell", "o wo", "rld"]


@pytest.mark.parametrize(
    ("text", "human"),
    [
        ("Human: one\nBot: two\nHuman: three\nBot:", "three"),
        ("Human: one Bot: two Human: three Bot:", "three"),
        ("Human: one\ntwo: Human: three\nBot:", "one\ntwo: Human: three"),
        ("Human: what is a Bot: word?\nBot:", "what is a Bot: word?"),
        ("Once upon a time", "Once upon a time"),
        ("Human: unanswered\nHuman: three\nBot: ", "three"),
    ],
)
def test_the_last_human_text_is_found_in_a_prompt(text: str, human: str) -> None:
    assert last_human(text) == human


def test_several_orders_can_stand_before_the_text() -> None:
    order = Order.parse("!fault=loading*2 !tokens=9 !first=5 !say=!tokens=1 ")
    assert (order.fault, order.fault_count, order.say) == ("loading", 2, "!tokens=1 ")
    assert order.numbers == {"tokens": 9, "first": 5}
    assert Order.parse("!tokens=many").reply(0) == ["You", " said:", " !tokens=many", " ."]


# The text-generation protocol


def test_generate_answers_a_bare_object_and_the_root_a_list(http: requests.Session, server: ModelServer) -> None:
    body = {"inputs": prompt("hi"), "parameters": {"return_full_text": False}}
    assert http.post(server.url + "/generate", json=body).json() == {"generated_text": "You said: hi ."}
    assert http.post(server.url + "/", json=body).json() == [{"generated_text": "You said: hi ."}]
    hosted = http.post(server.url + "/models/EleutherAI/gpt-j-6B", json=body)
    assert hosted.json() == [{"generated_text": "You said: hi ."}]


def test_the_root_repeats_the_prompt_unless_told_otherwise(http: requests.Session, server: ModelServer) -> None:
    body: dict[str, Any] = {"inputs": prompt("hi")}
    assert http.post(server.url, json=body).json()[0]["generated_text"] == prompt("hi") + "You said: hi ."
    assert http.post(server.url + "/generate", json=body).json()["generated_text"] == "You said: hi ."
    body["parameters"] = {"return_full_text": True}
    told = events(http.post(server.url + "/generate_stream", json=body, stream=True))
    assert told[-1]["generated_text"] == prompt("hi") + "You said: hi ."


def test_a_stream_ends_with_the_text_and_the_reason_only_if_asked(tgi: Asker) -> None:
    *first, last = events(tgi.post("hi", stream=True))
    assert [event["index"] for event in [*first, last]] == [1, 2, 3, 4, 5]
    assert all(event["generated_text"] is None for event in first)
    assert set(first[0]["token"]) == {"id", "text", "logprob", "special"}
    assert (last["generated_text"], last["details"]) == ("You said: hi .", None)
    assert last["token"]["special"], "the end of the text is a token too, and its text is not part of the reply"
    last = events(tgi.post("hi", stream=True, details=True))[-1]
    assert last["details"]["finish_reason"] == "eos_token"


def test_a_limit_ends_the_reply_with_its_last_token(tgi: Asker) -> None:
    *_, last = events(tgi.post("hi", stream=True, details=True, max_new_tokens=2))
    assert (last["token"]["text"], last["generated_text"]) == (" said:", "You said:")
    assert last["details"]["finish_reason"] == "length"
    assert len(tgi.reply("!tokens=200").split()) == 100, "the default limit"


def test_a_stop_text_stays_in_the_reply(tgi: Asker) -> None:
    *_, last = events(tgi.post("!say=Hello\\nHuman: more", stream=True, details=True, stop=[STOP]))
    assert (last["generated_text"], last["details"]["finish_reason"]) == ("Hello\nHuman:", "stop_sequence")


def test_a_stop_text_that_ends_within_a_token_is_not_seen(tgi: Asker) -> None:
    assert tgi.reply("!say=Hi!\\nHuman: more", stop=[STOP]) == "Hi!\nHuman: more"


@pytest.mark.parametrize(
    "parameters",
    [
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stop": "a"},
        {"max_new_tokens": 0},
        {"temperature": 0},
        {"top_p": 1.0},
        {"top_k": "many"},
    ],
)
def test_parameters_that_the_real_server_refuses_are_refused(tgi: Asker, parameters: dict[str, Any]) -> None:
    answer = tgi.post("hi", **parameters)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
    assert [record.outcome for record in tgi.server.requests()] == ["refused"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"{", 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"inputs": ""}', 422),
        (b'{"inputs": "half: \\ud83d"}', 400),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(tgi: Asker, data: bytes, status: int) -> None:
    assert tgi.http.post(tgi.server.url, data=data).status_code == status
    assert [record.outcome for record in tgi.server.requests()] == ["refused"]


# The client of the people who made that protocol


@pytest.fixture
def hub(server: ModelServer) -> Any:
    return InferenceClient(model=server.url, token="hf_test", timeout=10)


@pytest.mark.parametrize("full", [True, False])
def test_the_hub_client_understands_a_whole_reply(hub: Any, full: bool) -> None:
    expected = (prompt("hi") if full else "") + "You said: hi ."
    assert hub.text_generation(prompt("hi"), return_full_text=full) == expected


def test_the_hub_client_understands_a_whole_reply_with_details(hub: Any) -> None:
    output = hub.text_generation(prompt("hi"), details=True, return_full_text=False, max_new_tokens=3)
    assert (output.generated_text, output.details.finish_reason) == ("You said: hi", "length")
    assert [(token.text, token.special) for token in output.details.tokens][-1] == (" hi", False)
    assert output.details.generated_tokens == 3


def test_the_hub_client_understands_a_stream(hub: Any, server: ModelServer) -> None:
    tokens = list(hub.text_generation(prompt("hi"), stream=True, stop=[" ."]))
    assert tokens == ["You", " said:", " hi", " ."]
    (record,) = server.requests()
    assert record.headers["authorization"] == "Bearer hf_test"


def test_the_hub_client_understands_a_stream_with_details(hub: Any) -> None:
    *first, last = hub.text_generation(prompt("hi"), stream=True, details=True, return_full_text=False)
    assert "".join(event.token.text for event in first) == "You said: hi ."
    assert (last.token.special, last.generated_text) == (True, "You said: hi .")
    assert (last.details.finish_reason, last.details.generated_tokens) == ("eos_token", 5)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        ("ValidationError", {"stop": list("abcde")}),
        ("GenerationError", {"prompt": prompt("!fault=failed_dependency")}),
        ("IncompleteGenerationError", {"prompt": prompt("!fault=server_error")}),
        ("HfHubHTTPError", {"prompt": prompt("!fault=loading")}),
        ("HfHubHTTPError", {"prompt": prompt("!fault=unauthorized_plain")}),
    ],
)
def test_the_hub_client_names_the_failures(hub: Any, error: str, asked: dict[str, Any]) -> None:
    with pytest.raises(getattr(errors, error)):
        hub.text_generation(**{"prompt": prompt("hi")} | asked)


def test_the_hub_client_names_a_failure_within_a_stream(hub: Any) -> None:
    stream = hub.text_generation(prompt("!fault=error_in_stream"), stream=True)
    assert [next(stream) for _ in range(3)] == ["You", " said:", " !fault=error_in_stream"]
    with pytest.raises(errors.GenerationError):
        next(stream)


def test_the_hub_client_understands_a_chat(hub: Any) -> None:
    messages = [{"role": "user", "content": "hi"}]
    assert hub.chat_completion(messages).choices[0].message.content == "You said: hi ."
    chunks = list(hub.chat_completion(messages, stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "You said: hi ."
    assert chunks[-1].choices[0].finish_reason == "stop"


# The protocol of OpenAI


def test_a_stream_ends_with_the_word_done(openai: Asker) -> None:
    lines = [line for line in openai.post("hi", stream=True).iter_lines() if line]
    assert lines[-1] == b"data: [DONE]"
    *first, last = [json.loads(line.removeprefix(b"data: "))["choices"][0] for line in lines[:-1]]
    assert all(choice["finish_reason"] is None for choice in first)
    assert last["finish_reason"] == "stop"


def test_a_limit_is_named_as_the_reason(openai: Asker) -> None:
    assert openai.pieces("hi", max_tokens=2)[-1] == " said:"
    assert openai.post("hi", max_tokens=2).json()["choices"][0]["finish_reason"] == "length"
    assert events(openai.post("hi", stream=True, max_tokens=2))[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stop", [STOP, [STOP], ["\nUser:", STOP]])
def test_a_stop_text_is_trimmed_though_it_comes_in_pieces(openai: Asker, stop: str | list[str]) -> None:
    text = "!say=Hi\\nHumans.\\nHuman: more"
    assert openai.reply(text, stop=stop) == "Hi\nHumans."
    pieces = openai.pieces(text, stop=stop)
    assert "".join(pieces) == "Hi\nHumans."
    assert len(pieces) > 2


def test_what_looked_like_a_stop_text_is_sent_in_the_end(openai: Asker) -> None:
    assert "".join(openai.pieces("!say=Hi\\nHum", stop=STOP)) == "Hi\nHum"


def test_usage_comes_without_choices_and_only_if_asked(openai: Asker) -> None:
    *_, last = events(openai.post("hi", stream=True, stream_options={"include_usage": True}))
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 4)
    assert all(event["choices"] for event in events(openai.post("hi", stream=True)))


def test_a_lax_server_leaves_out_what_clients_like_to_wait_for(openai: Asker) -> None:
    text = openai.post("!fault=lax !say=Hi\\nHuman: more", stream=True, stop=STOP).text
    assert "[DONE]" not in text
    assert "man:" in text
    assert text.count("finish_reason") == 1


def test_a_strict_server_refuses_a_field_that_it_does_not_know(openai: Asker) -> None:
    assert openai.reply("!fault=strict", temperature=0.5, stop=STOP) == "You said: !fault=strict ."
    assert openai.post("!fault=strict", repetition_penalty=1.1).status_code == 422


def test_the_service_pages_answer(http: requests.Session, server: ModelServer) -> None:
    assert http.get(server.url + "/health").status_code == 200
    assert http.get(server.url + "/info").json()["model_id"] == "EleutherAI/gpt-j-6B"
    assert http.get(server.url + "/v1/models").json()["data"][0]["id"] == "EleutherAI/gpt-j-6B"
    assert http.get(server.url + "/generate").status_code == 405
    assert http.post(server.url + "/nowhere", json={}).status_code == 404
    assert [(record.path, record.outcome) for record in server.requests()] == [("/nowhere", "refused")]


# Faults


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
def test_a_page_comes_whatever_was_asked(
    *, any_protocol: Asker, fault: str, status: int, kind: str, beginning: str, stream: bool
) -> None:
    answer = any_protocol.post(f"!fault={fault}", stream=stream)
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
    assert answer.text.startswith(beginning)


def test_a_redirect_leads_where_it_was_told_to(any_protocol: Asker) -> None:
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
    assert len([event for event in first if any_protocol.piece(event)]) == 3
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


@pytest.mark.parametrize(("fault", "tokens"), [("silent", 0), ("silent_stream", 3)])
def test_a_server_can_fall_silent(any_protocol: Asker, fault: str, tokens: int) -> None:
    path, body = any_protocol.body(f"!fault={fault}", stream=True)
    server = any_protocol.server
    with ask(server, path, body):
        server.wait_until(lambda records: bool(records) and (not tokens or records[0].first_at is not None))
    (record,) = server.wait_until(ended)
    assert (record.fault, record.outcome, record.tokens) == (fault, "closed_by_client", tokens)


def test_a_stream_can_be_endless(any_protocol: Asker) -> None:
    any_protocol.server.control(interval=1)
    answer = any_protocol.post("!fault=endless", stream=True, stop=["w1"])
    lines = [line for line, _ in zip(answer.iter_lines(), range(100), strict=False) if line.startswith(b"data:")]
    answer.close()
    assert any_protocol.piece(json.loads(lines[-1].removeprefix(b"data:"))).startswith(" w")
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


# Time


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


def test_tokens_come_at_their_time(any_protocol: Asker) -> None:
    any_protocol.server.control(first=60, interval=10)
    any_protocol.pieces("!tokens=5")
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
        assert tgi.server.control()["active"] == 1


def test_the_headers_of_a_stream_do_not_wait_for_the_first_token(tgi: Asker) -> None:
    path, body = tgi.body(f"!first={LONG}", stream=True)
    with ask(tgi.server, path, body) as connection:
        assert b"200 OK" in receive_until(connection, b"\r\n\r\n")


def test_a_quiet_stream_is_kept_alive_with_comments(tgi: Asker) -> None:
    tgi.server.control(keep_alive=10)
    answer = tgi.post("!first=60 hi", stream=True)
    lines = list(answer.iter_lines())
    assert b":" in lines
    assert lines[-2].startswith(b"data:")


# What is remembered


def test_a_request_is_remembered_with_all_that_was_sent(any_protocol: Asker) -> None:
    path, body = any_protocol.body("hi", stop=[STOP], stream=True)
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


def test_numbers_go_on_when_the_memory_is_emptied(tgi: Asker) -> None:
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
def test_a_client_that_goes_is_noticed_at_once(any_protocol: Asker, order: str, stream: bool) -> None:
    server = any_protocol.server
    path, body = any_protocol.body(order, stream=stream)
    with ask(server, path, body):
        begins = stream and "first" not in order and order != "!fault=silent"
        server.wait_until(lambda records: bool(records) and (not begins or records[0].first_at is not None))
        closed_at = time.time()
    (record,) = server.wait_until(ended)
    assert record.outcome == "closed_by_client"
    assert record.ended_at is not None
    assert record.ended_at - closed_at < NOTICED


def test_a_client_that_goes_before_it_is_answered_is_remembered_too(tgi: Asker) -> None:
    for _ in range(20):
        with ask(tgi.server, *tgi.body(f"!first={LONG}")):
            pass
    records = tgi.server.wait_until(lambda records: len(records) == 20 and ended(records))
    assert {record.outcome for record in records} == {"closed_by_client"}


def test_a_client_that_does_not_read_does_not_hold_up_the_others(tgi: Asker) -> None:
    body = {"inputs": prompt("!tokens=100000"), "parameters": {"max_new_tokens": 100_000}, "stream": True}
    with ask(tgi.server, "/", body):
        tgi.server.wait_until(lambda records: bool(records) and records[0].first_at is not None)
        assert tgi.reply("hi") == "You said: hi ."
    tgi.server.wait_until(ended)


def test_hundreds_of_streams_go_on_at_once(tgi: Asker) -> None:
    path, body = tgi.body(f"!interval={LONG}", stream=True)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(ask(tgi.server, path, body)) for _ in range(300)]
        for connection in connections:
            receive_until(connection, b'"index"')
        assert tgi.server.control()["active"] == 300
    records = tgi.server.wait_until(ended)
    assert [record.outcome for record in records] == ["closed_by_client"] * 300
    assert tgi.server.control()["active"] == 0


def test_one_connection_serves_many_requests_even_at_once(tgi: Asker) -> None:
    whole, streamed = tgi.body("one"), tgi.body("two", stream=True)
    with socket.create_connection(("127.0.0.1", tgi.server.port), timeout=10) as connection:
        connection.sendall(raw(*whole) + raw(*streamed) + raw(*whole)[:-5])
        assert b"said: one" in receive_until(connection, b"0\r\n\r\n")
        connection.sendall(raw(*whole)[-5:])
        assert b"said: one" in receive_until(connection, b"}]")
    assert [record.outcome for record in tgi.server.requests()] == ["done"] * 3


def test_waiting_for_what_does_not_come_has_an_end(server: ModelServer) -> None:
    with pytest.raises(TimeoutError, match="not true within"):
        server.wait_until(ended, timeout=0.05)


# The process


def test_without_records_only_the_figures_are_kept(http: requests.Session) -> None:
    with ModelServer(record=False, tokens=6, model="a/model") as server:
        assert Asker(http, server, "tgi").reply("hi") == "You said: hi . w1 w2"
        (record,) = server.requests()
        assert (record.body, record.prompt, record.headers) == (None, None, {})
        assert (record.tokens, record.outcome) == (6, "done")
        assert http.get(server.url + "/info").json()["model_id"] == "a/model"


def test_a_server_comes_back_at_the_same_address() -> None:
    with ModelServer() as server:
        url, pid = server.url, server.pid
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            server.requests()
        server.start()
        assert (server.url, server.requests()) == (url, [])
        assert server.pid != pid


def test_a_port_that_is_taken_is_an_error(server: ModelServer) -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        ModelServer(port=server.port).start()


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
