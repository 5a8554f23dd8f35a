"""What model servers and proxies really send, byte for byte, on each protocol: replies."""

# ruff: noqa: E501 - a row holds the words of one server

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from chatbot.worker.models.errors import ContentRefused, ModelError, PermanentModelError, TransientModelError
from tests.support.byte_server import (
    CHAT,
    COMPLETIONS,
    HF,
    JSON,
    ByteServer,
    Reply,
    Wire,
    byte_server,
    chunked,
    event,
    reply,
    response,
)

WIRES = [pytest.param(wire, id=wire.api) for wire in (HF, COMPLETIONS, CHAT)]
OPENAI = WIRES[1:]
HELLO = Reply("Hello there.", "stop")


@pytest.fixture(scope="module")
def server() -> Iterator[ByteServer]:
    with byte_server() as running:
        yield running


Body = Callable[[Wire], bytes]

WHOLE_REPLIES: dict[str, Body] = {
    "a stream": lambda w: chunked(*w.hello()),
    "a stream labelled as JSON": lambda w: chunked(*w.hello(), kind=JSON),
    "a stream labelled as text": lambda w: chunked(*w.hello(), kind="text/plain; charset=utf-8"),
    "a stream without a label": lambda w: chunked(*w.hello(), kind=None),
    "a stream in one piece": lambda w: response("".join(w.hello()), kind=None),
    "a stream in bytes": lambda w: chunked(*(bytes([b]) for b in "".join(w.hello()).encode())),
    "a whole reply": lambda w: response(json.dumps(w.whole("Hello there."))),
    "a whole reply labelled as a stream": lambda w: response(
        json.dumps(w.whole("Hello there.")), kind="text/event-stream"
    ),
    "a whole reply without a label": lambda w: response(json.dumps(w.whole("Hello there.")), kind=None),
    "a whole reply, indented": lambda w: response("\n" + json.dumps(w.whole("Hello there."), indent=2) + "\n"),
    "a whole reply with 201": lambda w: response(json.dumps(w.whole("Hello there.")), status="201 Created"),
    "lines of JSON": lambda w: chunked(
        *(json.dumps(d) + "\n" for d in (w.delta("Hello"), w.delta(" there."), w.end(whole="Hello there."))),
        kind="application/x-ndjson",
    ),
    "a byte order mark": lambda w: chunked(b"\xef\xbb\xbf", *w.hello()),
    "half a byte order mark at a time": lambda w: chunked(b"\xef", b"\xbb\xbf", *w.hello()),
    "a byte order mark before JSON": lambda w: response(b"\xef\xbb\xbf" + json.dumps(w.whole("Hello there.")).encode()),
    "CR LF": lambda w: chunked(*(e.replace("\n", "\r\n") for e in w.hello())),
    "CR LF, split": lambda w: chunked(*"".join(e.replace("\n", "\r\n") for e in w.hello()).splitlines(keepends=True)),
    "CR alone": lambda w: chunked(*(e.replace("\n", "\r") for e in w.hello())),
    "no space after data:": lambda w: chunked(*(e.replace("data: ", "data:") for e in w.hello())),
    "data twice": lambda w: chunked(*(e.replace("data: ", "data: data: ") for e in w.hello())),
    "data in several lines": lambda w: chunked(*(e.replace(", ", ",\ndata: ") for e in w.hello())),
    "no empty line between events": lambda w: chunked(*(e.replace("\n\n", "\n") for e in w.hello())),
    "ids and retry times": lambda w: chunked("retry: 500\n\n", *(f"id: 7\n{e}" for e in w.hello())),
    "events of the name message": lambda w: chunked(*(f"event: message\n{e}" for e in w.hello())),
    "comments": lambda w: chunked(": OPENROUTER PROCESSING\n\n", *(f"{e}: keep-alive\n\n" for e in w.hello())),
    "empty data": lambda w: chunked("data:\n\n", *(f"{e}data:\n\ndata: \n\n" for e in w.hello())),
    "pings": lambda w: chunked('event: ping\ndata: {"type": "ping"}\n\n', *(f"event: ping\n\n{e}" for e in w.hello())),
    "pings with text": lambda w: chunked(*(f"event: ping\ndata: 2026-11-27 10:00:00+00:00\n\n{e}" for e in w.hello())),
    "pings as data": lambda w: chunked(*(f"data: ping\n\ndata: [keep-alive]\n\ndata: null\n\n{e}" for e in w.hello())),
    "events of other names": lambda w: chunked(*(f'event: metrics\ndata: {{"tokens": 1}}\n\n{e}' for e in w.hello())),
    "an event of another name with a choice": lambda w: chunked(
        *w.hello()[:2], f"event: debug\n{event(w.delta('NOT A REPLY'))}", *w.hello()[2:]
    ),
    "[DONE]": lambda w: chunked(*w.hello(), "data: [DONE]\n\n"),
    "[DONE] without an empty line": lambda w: chunked(*w.hello(), "data: [DONE]"),
    "[DONE] and no reason": lambda w: chunked(*w.hello()[:2], "data: [DONE]\n\n"),
    "[DONE] and no reason, and the connection is cut": lambda w: chunked(*w.hello()[:2], "data: [DONE]\n\n", end=False),
    "no reason and no [DONE]": lambda w: chunked(*w.hello()[:2]),
    "no reason, but a length": lambda w: response("".join(w.hello()[:2]), kind="text/event-stream"),
    "a reason, and the connection is cut": lambda w: chunked(*w.hello(), end=False),
    "events after the reason": lambda w: chunked(*w.hello(), 'data: {"usage": {"total_tokens": 9}, "choices": []}\n\n'),
    "an error after the reason": lambda w: chunked(*w.hello(), event({"error": {"message": "x", "code": 500}})),
    "text after the reason": lambda w: chunked(*w.hello(), "data: bye\n\n"),
    "statistics without errors": lambda w: chunked(
        *w.hello()[:2], event({"choices": [], "usage": {"total_tokens": 9}, "error_code": 0, "errors": []})
    ),
    "an end by another word": lambda w: chunked(*w.hello()[:2], 'data: {"sources": []}\n\ndata: [END]\n\n'),
    "an end by the event's name": lambda w: chunked(*w.hello()[:2], 'data: {"a": 1}\n\nevent: end\ndata: {}\n\n'),
    "lines of JSON, two at a time": lambda w: chunked(
        "".join(json.dumps(d) + "\n" for d in (w.delta("Hello"), w.delta(" there."))),
        json.dumps(w.end(whole="Hello there.")),
        kind="application/x-ndjson",
    ),
    "heads before the final one": lambda w: (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + chunked(*w.hello())
    ),
    "a line with a stray beginning": lambda w: chunked(w.hello()[0], " ", "\0", *w.hello()[1:]),
    "an empty choice first": lambda w: chunked(event(w.delta("")), *w.hello()),
    "a null text": lambda w: chunked(event(w.delta(None)), *w.hello()),
    "an error of null": lambda w: chunked(*(event(json.loads(e[6:]) | {"error": None}) for e in w.hello())),
    "an error without content": lambda w: chunked(
        *(event(json.loads(e[6:]) | {"error": {"message": None, "code": 0}}) for e in w.hello())
    ),
    "gzip": lambda w: response(
        gzip.compress("".join(w.hello()).encode()), kind="text/event-stream", headers=("Content-Encoding: gzip",)
    ),
    "gzip of JSON": lambda w: response(
        gzip.compress(json.dumps(w.whole("Hello there.")).encode()), headers=("Content-Encoding: gzip",)
    ),
    "HTTP/1.0": lambda w: b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + "".join(w.hello()).encode(),
    "control characters in JSON": lambda w: response(json.dumps(w.whole("Hello#there.")).replace("#", "\t")),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", WHOLE_REPLIES)
def test_a_reply_is_read_however_it_is_sent(server: ByteServer, wire: Wire, case: str) -> None:
    server.script(WHOLE_REPLIES[case](wire))
    # Without the loop `requests` is the client.
    for in_loop in (True, False):
        got = reply(wire.model(server, in_loop=in_loop))
        assert (got.text.replace("\t", " "), got.reason) == (HELLO.text, HELLO.reason)


@pytest.mark.parametrize("wire", WIRES)
def test_a_finish_reason_with_every_chunk_is_not_the_end(server: ByteServer, wire: Wire) -> None:
    reason = "eos_token" if wire is HF else "stop"
    chunks = [wire.delta(text, reason) for text in ("Hello", " there", ".")]
    server.script(chunked(*map(event, chunks), event(wire.end("length", "Hello there."))))
    assert reply(wire.model(server)) == Reply("Hello there.", "length")
    server.script(chunked(*map(event, chunks), "data: [DONE]\n\n"))
    assert reply(wire.model(server)) == HELLO
    server.script(chunked(*map(event, chunks[:2]), end=False))
    with pytest.raises(TransientModelError):
        reply(wire.model(server))


@pytest.mark.parametrize("wire", [HF, COMPLETIONS], ids=lambda w: w.api)
def test_a_prompt_that_the_server_repeats_is_no_part_of_the_reply(server: ByteServer, wire: Wire) -> None:
    server.script(response(json.dumps(wire.whole("Human: hello\nBot: Hello there."))))
    assert reply(wire.model(server)) == HELLO
    server.script(chunked(event(wire.delta("Human: hello\nBot:")), *wire.hello()))
    assert reply(wire.model(server)) == HELLO


CUT: dict[str, Body] = {
    "in a stream": lambda w: chunked(*w.hello()[:2], end=False),
    "in an event": lambda w: chunked(*w.hello()[:2], w.hello()[2][:20]),
    "in a stream of known length": lambda w: response("".join(w.hello()), kind="text/event-stream")[:-60],
    "in a stream of unknown length": lambda w: (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + "".join(w.hello()[:2]).encode()
    ),
    "in lines of JSON of unknown length": lambda w: (
        b"HTTP/1.1 200 OK\r\n\r\n" + (json.dumps(w.delta("Hello")) + "\n").encode()
    ),
    "in a whole reply": lambda w: response(json.dumps(w.whole("Hello there.")))[:-9],
    "in a whole reply of wrong length": lambda w: response(json.dumps(w.whole("Hello there."))[:-9]),
    "before the body": lambda _: chunked(end=False),
    "an empty stream": lambda _: chunked(),
    "an empty body": lambda _: response(""),
    "[DONE] alone": lambda _: chunked("data: [DONE]\n\n"),
    "comments alone": lambda _: chunked(": ping\n\n: ping\n\n"),
    "an empty object": lambda _: response("{}"),
    "an empty list": lambda _: response("[]"),
    "a text": lambda _: response("upstream connect error or disconnect/reset before headers", kind="text/plain"),
    "HTML": lambda _: response("<html><body>Please log in</body></html>", kind="text/html"),
    "HTML labelled as a stream": lambda _: response("<!DOCTYPE html><html></html>", kind="text/event-stream"),
    "no content": lambda _: b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "accepted": lambda _: response("{}", status="202 Accepted"),
    "text within a stream": lambda w: chunked(*w.hello()[:2], "Internal Server Error\n\n"),
    "compressed, in a stream": lambda w: chunked(
        gzip.compress("".join(w.hello()[:2]).encode())[:-8], headers=("Content-Encoding: gzip",)
    ),
    "HTML within a stream": lambda w: chunked(*w.hello()[:2], "<html><h1>502 Bad Gateway</h1></html>"),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", CUT)
def test_half_a_reply_is_a_transient_failure(server: ByteServer, wire: Wire, case: str) -> None:
    server.script(CUT[case](wire))
    with pytest.raises(TransientModelError):
        reply(wire.model(server))


ERROR = {"message": "The engine died", "type": "server_error", "code": 500}
UNKNOWN_FORMS: tuple[dict[str, Any], ...] = (
    {"type": "about:blank", "title": "Internal Server Error", "status": 500},
    {"code": 14, "details": []},
    {"status": {"code": 14, "message": "unavailable"}},
    {"status": "error", "reason": "engine died"},
    {"exception": "CUDA out of memory"},
    {"__type": "ThrottlingException"},
    {"internalServerException": {"Message": "x"}},
    {"Message": "died"},
    {"fault": {"faultstring": "Spike arrest violation"}},
    {"errorMessage": "Task timed out", "errorType": "Runtime.ExitError"},
    {"errcode": 500, "errmsg": "x"},
    {"ok": False, "reason": "x"},
    {"choices": [], "usage": None, "message": "Internal error", "code": 500},
    {"data": {"error": "x"}},
    {"statusCode": "503"},
)


def in_mid_stream(document: Any, w: Wire) -> bytes:
    return chunked(*w.hello()[:2], event(document), "data: [DONE]\n\n")


FAILURES: dict[str, Body] = {
    "error": lambda w: chunked(*w.hello()[:2], event({"error": ERROR}), "data: [DONE]\n\n"),
    "error as text": lambda w: chunked(*w.hello()[:2], event({"error": "Request failed during generation"})),
    "error and its type": lambda w: chunked(
        *w.hello()[:2], event({"error": "Incomplete generation", "error_type": "incomplete_generation"})
    ),
    "object: error": lambda w: chunked(*w.hello()[:2], event({"object": "error", **ERROR}), "data: [DONE]\n\n"),
    "type: error": lambda w: chunked(
        *w.hello()[:2], event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    ),
    "event: error": lambda w: chunked(*w.hello()[:2], f"event: error\n{event(ERROR)}"),
    "event: error with text": lambda w: chunked(*w.hello()[:2], "event: error\ndata: the engine died\n\n"),
    "event: error without data": lambda w: chunked(*w.hello()[:2], "event: error\n\n"),
    "event: error with an empty object": lambda w: chunked(*w.hello()[:2], "event: error\ndata: {}\n\n"),
    "an error in a list": lambda w: chunked(*w.hello()[:2], event([{"error": ERROR}])),
    "an error that is no event": lambda w: chunked(*w.hello()[:2], json.dumps({"error": ERROR})),
    "detail": lambda w: chunked(*w.hello()[:2], event({"detail": "Internal Server Error"})),
    "text in place of JSON": lambda w: chunked(*w.hello()[:2], "data: Internal Server Error\n\n"),
    "finish_reason: error": lambda w: chunked(*w.hello()[:2], event(w.end("error"))),
    "finish_reason: abort": lambda w: chunked(*w.hello()[:2], event(w.end("abort"))),
    "finish_reason: network_error": lambda w: chunked(*w.hello()[:2], event(w.end("network_error"))),
    "a whole reply that ended with an error": lambda w: response(json.dumps(w.whole("Hello", "error"))),
    "an error in a whole reply": lambda _: response(json.dumps({"error": ERROR})),
    "object: error in a whole reply": lambda _: response(json.dumps({"object": "error", **ERROR})),
    "errors": lambda _: response(json.dumps({"success": False, "errors": [{"code": 7000, "message": "died"}]})),
    "error: true": lambda _: response(
        json.dumps({"error": True, "status_code": 503, "message": "Service Unavailable"})
    ),
    "llama.cpp's field error": lambda w: chunked(*w.hello()[:2], f"error: {json.dumps(ERROR)}\n\n", "data: [DONE]\n\n"),
    **{f"in no known form: {sorted(form)}": partial(in_mid_stream, form) for form in UNKNOWN_FORMS},
    "a list of texts": lambda w: chunked(*w.hello()[:2], event(["error", "died"]), "data: [DONE]\n\n"),
    "a number": lambda w: chunked(*w.hello()[:2], event(500), "data: [DONE]\n\n"),
    "an object that says nothing": lambda w: chunked(*w.hello()[:2], event({"title": "Service Unavailable"})),
    "event: failed": lambda w: chunked(*w.hello()[:2], 'event: failed\ndata: {"reason": "x"}\n\n', "data: [DONE]\n\n"),
    "event: timeout": lambda w: chunked(*w.hello()[:2], "event: timeout\ndata: {}\n\n"),
    "msg": lambda _: response(json.dumps({"code": 50505, "msg": "Model service overloaded", "data": None})),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("case", FAILURES)
def test_an_error_in_an_answer_is_a_transient_failure(server: ByteServer, wire: Wire, case: str) -> None:
    server.script(FAILURES[case](wire))
    with pytest.raises(TransientModelError):
        reply(wire.model(server))


@pytest.mark.parametrize("wire", OPENAI)
def test_an_error_within_a_choice_is_a_transient_failure(server: ByteServer, wire: Wire) -> None:
    choice = {"index": 0, "text": "", "delta": {"content": ""}, "finish_reason": "error", "error": ERROR}
    server.script(chunked(*wire.hello()[:2], event({"choices": [choice]}), "data: [DONE]\n\n"))
    with pytest.raises(TransientModelError):
        reply(wire.model(server))
    choice = {"index": 0, "text": "Half", "message": {"content": "Half"}, "finish_reason": "stop", "error": ERROR}
    server.script(response(json.dumps({"choices": [choice]})))
    with pytest.raises(TransientModelError):
        reply(wire.model(server))


REASONS = [
    *(("stop", name) for name in ("stop", "eos", "end_turn", "stop_sequence", "STOP", "tool_calls", "COMPLETE")),
    *(("length", name) for name in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens")),
    *(
        ("content_filter", name)
        for name in ("content_filter", "SAFETY", "RECITATION", "content_filter: PROHIBITED_CONTENT")
    ),
    *(("content_filter", name) for name in ("refusal", "sensitive", "contentFilter", "ERROR_TOXIC", "guardrails")),
    *(
        ("length", name)
        for name in ("FINISH_REASON_MAX_TOKENS", "truncated", "output_limit", "ERROR_LIMIT", "context_window_exceeded")
    ),
]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("reason", "name"), REASONS)
def test_why_a_reply_ended_is_reported(server: ByteServer, wire: Wire, reason: str, name: str) -> None:
    server.script(chunked(*wire.hello()[:2], event(wire.end(name, "Hello there."))))
    assert reply(wire.model(server)) == Reply("Hello there.", reason)
    server.script(response(json.dumps(wire.whole("Hello there.", name))))
    assert reply(wire.model(server)) == Reply("Hello there.", reason)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "name",
    ["function_call_filter: MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "cancelled", "killed", "engine_dead"],
)
def test_a_reason_that_is_a_failure_is_transient(server: ByteServer, wire: Wire, name: str) -> None:
    server.script(chunked(*wire.hello()[:2], event(wire.end(name, "Hello there.")), "data: [DONE]\n\n"))
    with pytest.raises(TransientModelError):
        reply(wire.model(server))


@pytest.mark.parametrize("wire", OPENAI)
@pytest.mark.parametrize("reason", ["", None, 0, 1, "null", {"type": "stop", "matched": 2}])
def test_a_reason_that_is_none_is_not_the_end(server: ByteServer, wire: Wire, reason: object) -> None:
    server.script(chunked(*(event(wire.delta(t, reason)) for t in ("Hello", " there.")), event(wire.end())))
    assert reply(wire.model(server)) == HELLO


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"Gr\xfc\xdfe", "Gr��e"),
        (b"caf\xc3", "caf�"),
        ("naïve 😀".encode(), "naïve 😀"),
        (b"\\ud83d\\ude00", "😀"),
    ],
)
def test_bytes_that_are_not_utf_8_are_replaced(server: ByteServer, wire: Wire, raw: bytes, shown: str) -> None:
    events = "".join([event(wire.delta("TEXT")), event(wire.end(whole="x"))]).encode().replace(b"TEXT", raw)
    server.script(chunked(events))
    assert reply(wire.model(server)) == Reply(shown, "stop")
    server.script(chunked(*(bytes([b]) for b in events)))
    assert reply(wire.model(server)) == Reply(shown, "stop")
    server.script(response(json.dumps(wire.whole("TEXT")).encode().replace(b"TEXT", raw)))
    assert reply(wire.model(server)) == Reply(shown, "stop")


CONTENTS = [
    (["Hello", " there."], HELLO),
    ([{"type": "text", "text": "Hello"}, {"type": "text", "text": " there."}], HELLO),
    ([{"type": "output_text", "text": "Hello there."}], HELLO),
    ([{"text": {"value": "Hello there."}}], HELLO),
    ({"type": "text", "text": "Hello there."}, HELLO),
    ([{"type": "refusal", "refusal": "I cannot help."}], Reply("I cannot help.", "stop")),
    ([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "Hello there."}], HELLO),
    (
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Hello there."}],
        Reply("Hello there.", "stop", "Hm."),
    ),
    (
        [{"type": "reasoning_content", "reasoning_content": "Hm."}, {"text": "Hello there."}],
        Reply("Hello there.", "stop", "Hm."),
    ),
    (42, Reply("42", "stop")),
    ([], Reply("", "stop")),
    (None, Reply("", "stop")),
]


@pytest.mark.parametrize(("content", "expected"), CONTENTS)
def test_content_may_be_a_list_of_parts(server: ByteServer, content: object, expected: Reply) -> None:
    server.script(chunked(event(CHAT.delta(content)), event(CHAT.end())))
    assert reply(CHAT.model(server)) == expected
    server.script(response(json.dumps(CHAT.whole(content))))
    assert reply(CHAT.model(server)) == expected


def test_a_refusal_is_shown_as_text(server: ByteServer) -> None:
    refused = Reply("I cannot help with that.", "stop")
    server.script(
        chunked(
            event(CHAT.delta(None, refusal="I cannot help")),
            event(CHAT.delta(None, refusal=" with that.")),
            event(CHAT.end()),
        )
    )
    assert reply(CHAT.model(server)) == refused
    message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    server.script(response(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})))
    assert reply(CHAT.model(server)) == refused


ODD: dict[str, bytes] = {
    "Azure's first chunk": chunked(
        event(
            {
                "choices": [],
                "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}],
            }
        ),
        event(
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {"role": "assistant", "content": ""},
                        "finish_reason": None,
                        "content_filter_results": {},
                    }
                ]
            }
        ),
        event(
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {"content": "Hello there."},
                        "content_filter_results": {
                            "error": {"code": "content_filter_error", "message": "The contents are not filtered"}
                        },
                    }
                ]
            }
        ),
        event({"choices": [{"index": 0, "content_filter_offsets": {"check_offset": 1}, "finish_reason": None}]}),
        event(CHAT.end()),
        event({"choices": [], "usage": {"total_tokens": 3}}),
        "data: [DONE]\n\n",
    ),
    "the reason in another spelling": chunked(
        event({"choices": [{"delta": {"content": "Hello there."}}]}),
        event({"choices": [{"delta": {}, "finishReason": "STOP"}]}),
    ),
    "a message within the delta": chunked(
        event({"choices": [{"delta": {"message": {"content": {"text": "Hello there."}}}}]}), event(CHAT.end())
    ),
    "text within the delta": chunked(event({"choices": [{"delta": {"text": "Hello there."}}]}), event(CHAT.end())),
    "content within the choice": chunked(event({"choices": [{"content": "Hello there.", "finish_reason": "stop"}]})),
    "delta: null": chunked(event({"choices": [{"delta": None, "finish_reason": None}]}), *CHAT.hello()),
    "choices: null": chunked(event({"choices": None}), *CHAT.hello()),
    "message in place of delta": chunked(
        event({"choices": [{"message": {"content": "Hello there."}, "finish_reason": "stop"}]}), "data: [DONE]\n\n"
    ),
    "the whole message at the end": chunked(
        *CHAT.hello()[:2], event({"choices": [{"message": {"content": "Hello there."}, "finish_reason": "stop"}]})
    ),
    "another choice before it": chunked(
        *(
            event({"choices": [{"index": 1, "delta": {"content": "No."}}, json.loads(e[6:])["choices"][0]]})
            for e in CHAT.hello()
        )
    ),
    "the whole text with each event": chunked(
        *(event({"choices": [{"message": {"content": text}}]}) for text in ("Hello", "Hello there.")),
        event({"choices": [{"message": {"content": "Hello there."}, "finish_reason": "stop"}]}),
    ),
    "messages in place of deltas": chunked(
        *(event({"choices": [{"message": {"content": text}}]}) for text in ("Hello", " there.")),
        event({"choices": [{"message": {"content": "Hello there."}, "finish_reason": "stop"}]}),
    ),
    "a choice that is not in a list": response(
        '{"choices": {"message": {"content": "Hello there."}, "finish_reason": "stop"}}'
    ),
    "special tokens at the end": chunked(
        *CHAT.hello()[:2], event(CHAT.delta("<|im_")), event(CHAT.delta("end|>\n<|endoftext|>\n")), event(CHAT.end())
    ),
    "the head of the prompt's end": chunked(
        event(CHAT.delta("<|start_header_id|>assistant<|end_")), event(CHAT.delta("header_id|>\n\n")), *CHAT.hello()
    ),
    "a message of Harmony without a channel": chunked(
        event(CHAT.delta("<|start|>assistant<|message|>")),
        *CHAT.hello()[:2],
        event(CHAT.delta("<|end|>")),
        event(CHAT.end()),
    ),
    "another choice": chunked(event({"choices": [{"index": 1, "delta": {"content": "No."}}]}), *CHAT.hello()),
    "Ollama's own protocol": chunked(
        '{"message": {"role": "assistant", "content": "Hello"}, "done": false}\n',
        '{"message": {"content": " there."}, "done": false}\n{"message": {"content": ""}, "done": true, "done_reason": "stop"}\n',
        kind="application/x-ndjson",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_chat_servers_differ(server: ByteServer, case: str) -> None:
    server.script(ODD[case])
    assert reply(CHAT.model(server)) == HELLO


#: As gpt-oss writes, where the server has no parser for it.
HARMONY = (
    "<|channel|>analysis<|message|>Let me",
    " see.<|end|><|start|>assistant<|channel|>commentary to=functions.x <|constrain|>json<|message|> Yes.<|call|>",
    "<|start|>assistant<|channel|>final<|message|>Hello",
    " there.<|return|>",
)
THOUGHTS: dict[str, list[dict[str, Any]]] = {
    "reasoning_content": [
        {"reasoning_content": "Let me see. "},
        {"reasoning_content": "Yes."},
        {"content": "Hello there."},
    ],
    "reasoning": [{"reasoning": "Let me see. "}, {"reasoning": "Yes.", "content": ""}, {"content": "Hello there."}],
    "both": [{"reasoning": "Let me see. Yes.", "reasoning_content": "Let me see. Yes."}, {"content": "Hello there."}],
    "thinking_blocks": [
        {"thinking_blocks": [{"type": "thinking", "thinking": "Let me see. Yes.", "signature": "x"}]},
        {"content": "Hello there."},
    ],
    "thinking": [{"thinking": "Let me see. Yes."}, {"content": "Hello there."}],
    "reasoning_details": [
        {"reasoning_details": [{"type": "reasoning.text", "text": "Let me see. Yes."}]},
        {"content": "Hello there."},
    ],
    "tags": [{"content": "<think>Let me see. Yes.</think>\n\nHello there."}],
    "split tags": [{"content": c} for c in "\n<think>\nLet me see. Yes.\n</think>\n\nHello there."],
    "Gemini's tags": [{"content": "<thought>Let me see."}, {"content": " Yes.</thought>Hello there."}],
    "other tags, in any case": [{"content": "<Thou"}, {"content": "ght>Let me see. Yes.</thought>\n\nHello there."}],
    "OpenThinker's tags": [{"content": "<|begin_of_thought|>\nLet me see. Yes.<|end_of_thought|>\n\nHello there."}],
    "Gemma's tags": [
        {"content": c} for c in ("<|chan", "nel>thought\nLet me see.", " Yes.\n<chan", "nel|>Hello there.<turn|>")
    ],
    "Cohere's tags": [
        {"content": c}
        for c in "<|START_THINKING|>Let me see. Yes.<|END_THINKING|><|START_RESPONSE|>Hello there.<|END_RESPONSE|>"
    ],
    "heads": [
        {"content": "<|im_start|>assistant\n<think>Let me see. Yes.</think>\n<|begin_of_solution|>"},
        {"content": "Hello there.<|end_of_solution|>"},
    ],
    "Harmony": [{"content": c} for c in HARMONY],
    "Harmony by the character": [{"content": c} for c in "".join(HARMONY)],
    "Bedrock's": [
        {"reasoning_content": {"reasoningText": {"text": "Let me see. Yes.", "signature": "x"}}},
        {"content": "Hello there."},
    ],
    "parts of Bedrock": [
        {"content": [{"reasoningContent": {"reasoningText": {"text": "Let me see. Yes."}}}, {"text": "Hello there."}]}
    ],
    "Mistral's tags": [{"content": "[THINK]Let me see. Yes.[/THINK]Hello there."}],
}


@pytest.mark.parametrize("case", THOUGHTS)
def test_thinking_is_kept_apart(server: ByteServer, case: str) -> None:
    deltas = [{"choices": [{"delta": delta}]} for delta in THOUGHTS[case]]
    expected = Reply("Hello there.", "stop", "Let me see. Yes.")
    server.script(chunked(*map(event, deltas), event(CHAT.end())))
    assert reply(CHAT.model(server)) == expected
    said = {k: [d[k] for d in THOUGHTS[case] if k in d] for d in THOUGHTS[case] for k in d}
    merged = {k: "".join(v) if isinstance(v[0], str) else v[0] for k, v in said.items()}
    server.script(response(json.dumps({"choices": [{"message": merged, "finish_reason": "stop"}]})))
    assert reply(CHAT.model(server)) == expected


def test_letters_that_are_longer_in_lower_case_move_no_tag(server: ByteServer) -> None:
    server.script(chunked(event(CHAT.delta("<think>İİİ</THINK>Hello there.")), event(CHAT.end())))
    assert reply(CHAT.model(server)) == Reply("Hello there.", "stop", "İİİ")


def test_a_reply_of_nothing_but_heads_ends(server: ByteServer) -> None:
    server.script(chunked(event(CHAT.delta("<|im_start|>assistant" * 5000)), *CHAT.hello()))
    assert reply(CHAT.model(server)) == HELLO


@pytest.mark.parametrize("wire", WIRES)
def test_tags_are_thinking_in_each_protocol(server: ByteServer, wire: Wire) -> None:
    texts = ("<thi", "nk>I am", "\nHuman: not a stop", " here.</th", "ink>\n\nHello there.")
    server.script(chunked(*(event(wire.delta(t)) for t in texts), event(wire.end(whole="x"))))
    assert reply(wire.model(server)) == Reply("Hello there.", "stop", "I am\nHuman: not a stop here.")
    server.script(response(json.dumps(wire.whole("".join(texts)))))
    assert reply(wire.model(server)) == Reply("Hello there.", "stop", "I am\nHuman: not a stop here.")
    server.script(
        chunked(event(wire.delta("<think>Never")), event(wire.delta(" ends")), event(wire.end("length", "x")))
    )
    assert reply(wire.model(server)) == Reply("", "length", "Never ends")
    server.script(
        chunked(event(wire.delta("Write <think> or")), event(wire.delta(" </think>.")), event(wire.end(whole="x")))
    )
    assert reply(wire.model(server)) == Reply("Write <think> or </think>.", "stop")


BARE = {
    "Let me see. Yes.\n</think>\n\nHello there.": Reply("Hello there.", "stop", "Let me see. Yes."),
    "Let me see. Yes.</think>\n\nHello there.": Reply("Hello there.", "stop", "Let me see. Yes."),
    "</think>\nHello there.": Reply("Hello there.", "stop"),
    "Let me see.\n\nYes.\n</think>": Reply("", "stop", "Let me see.\n\nYes."),
    "A tag: </think> ends it.\nYes.": Reply("A tag: </think> ends it.\nYes.", "stop"),
    "A tag:\n```\n</think>\n\n```\nYes.": Reply("A tag:\n```\n</think>\n\n```\nYes.", "stop"),
    "A tag: </th": Reply("A tag: </th", "stop"),
    # Small models repeat a tag for ever.
    "a" + "</think>" * 3000: Reply("a" + "</think>" * 3000, "stop"),
    "<think>a</think>b\n</think>\n\nc": Reply("b\n</think>\n\nc", "stop", "a"),
    "a\n</think>\n\nb\n</think>\n\nc": Reply("b\n</think>\n\nc", "stop", "a"),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("text", BARE)
def test_thinking_that_began_in_the_prompt_ends_with_a_tag_of_its_own(
    server: ByteServer, wire: Wire, text: str
) -> None:
    for chunks in ([text], [*text[:500], text[500:]], [text[:9], text[9:]]):
        server.script(chunked(*(event(wire.delta(c)) for c in chunks), event(wire.end(whole=text))))
        assert reply(wire.model(server)) == BARE[text]
    server.script(response(json.dumps(wire.whole(text))))
    assert reply(wire.model(server)) == BARE[text]


@pytest.mark.parametrize("wire", WIRES)
def test_a_filter_that_cuts_a_reply_is_its_finish_reason(server: ByteServer, wire: Wire) -> None:
    error = event({"error": {"message": "The response was filtered", "code": "content_filter"}})
    server.script(chunked(*wire.hello()[:2], error))
    assert reply(wire.model(server)) == Reply("Hello there.", "content_filter")
    server.script(chunked(error))
    with pytest.raises(ContentRefused):
        reply(wire.model(server))


def test_a_blocked_prompt_is_refused(server: ByteServer) -> None:
    server.script(response(json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})))
    with pytest.raises(ContentRefused):
        reply(CHAT.model(server))


@pytest.mark.parametrize("wire", WIRES)
def test_a_server_that_stays_connected_after_the_reason_does_not_hold_the_reply(
    server: ByteServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatbot.worker.models.answers.reading._AFTER_REASON", 0.2)

    def stay(connection: socket.socket) -> None:
        connection.sendall(chunked(*wire.hello(), end=False))
        connection.recv(1)

    server.script(stay)
    assert reply(wire.model(server)) == HELLO


def test_an_error_of_groq_stands_beside_the_choice(server: ByteServer) -> None:
    last = {**CHAT.delta(""), "x_groq": {"id": "r", "error": "over capacity"}}
    server.script(chunked(*CHAT.hello()[:2], event(last), "data: [DONE]\n\n"))
    with pytest.raises(TransientModelError):
        reply(CHAT.model(server))


def test_long_junk_in_a_stream_costs_no_time(server: ByteServer) -> None:
    # A search that goes back for each character of it would hold all replies of the process.
    server.script(chunked(*CHAT.hello()[:1], f"data: {'-' * 100_000}x\n\n"))
    began = time.process_time()
    with pytest.raises(TransientModelError):
        reply(CHAT.model(server))
    assert time.process_time() - began < 5


def test_a_body_of_very_many_documents_is_refused(server: ByteServer) -> None:
    # They are read in one go, while other replies wait.
    server.script(response("{}" * 200_000))
    with pytest.raises(PermanentModelError, match="more than 20000 documents"):
        reply(CHAT.model(server))


@pytest.mark.parametrize("wire", WIRES)
def test_no_failure_of_the_kind_ends_in_another_exception(server: ByteServer, wire: Wire) -> None:
    for document in (
        "null",
        "1",
        '"text"',
        "[1]",
        "[[]]",
        '{"choices": [[]]}',
        '{"choices": {}}',
        '{"choices": [null]}',
        '{"token": 1}',
        '{"generated_text": {}}',
        '{"error": []}',
        '{"error": [[]]}',
        '{"error": {"code": {}}}',
        '{"choices": [{"delta": [1], "finish_reason": []}]}',
        '{"object": []}',
        '{"type": {}}',
        "[" * 5000,
    ):
        for answer in (
            response(document),
            chunked(f"data: {document}\n\n"),
            response(document, status="400 Bad Request"),
        ):
            server.script(answer)
            with pytest.raises(ModelError):
                reply(wire.model(server))
