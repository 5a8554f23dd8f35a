"""Model servers of the Responses protocol: what they are asked, and what their events and whole responses mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatbot.config import OPENAI_RESPONSES
from chatbot.worker.models.answers.piece import Piece
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import ModelError, PromptTooLong, TransientModelError
from chatbot.worker.prompts import PromptMessage
from tests.support.byte_server import ByteServer, byte_server, chunked, reply, response
from tests.support.models import at

USAGE = {"input_tokens": 7, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 5, "total_tokens": 12}
CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"at":"x"}', "status": "completed"}
HELLO = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello there."}]}


@pytest.fixture(scope="module")
def server() -> Iterator[ByteServer]:
    with byte_server() as found:
        yield found


def named(kind: str, **fields: Any) -> str:
    """An event as servers send it, with its name twice."""
    return f"event: response.{kind}\ndata: {json.dumps({'type': f'response.{kind}', **fields})}\n\n"


def ended(status: str = "completed", *output: Any, **fields: Any) -> dict[str, Any]:
    return {"object": "response", "status": status, "error": None, "output": list(output), "usage": USAGE, **fields}


def said(*texts: str) -> list[str]:
    return [named("created", response={**ended("in_progress"), "usage": None}), *(text(t) for t in texts)]


def text(delta: str) -> str:
    return named("output_text.delta", output_index=0, delta=delta)


def pieces(server: ByteServer, conversation: list[PromptMessage], options: Any = None, **changes: Any) -> list[Piece]:
    call = Call(30, session="5e55")
    call.options = options
    return list(at(f"{server.url}/v1/responses", OPENAI_RESPONSES, **changes).generate(conversation, call))


def test_a_streamed_reply_with_thinking_calls_and_tokens(server: ByteServer) -> None:
    thinking = [
        named("reasoning_summary_text.delta", delta="Let me"),
        named("reasoning_summary_part.added", summary_index=1),
        named("reasoning_text.delta", delta="see."),
    ]
    calls = [
        named("function_call_arguments.delta", output_index=1, delta='{"at'),
        named("output_item.done", output_index=1, item=CALL),
    ]
    last = named("completed", response=ended("completed", HELLO, CALL))
    server.script(chunked(*said(), *thinking, text("Hello"), text(" there."), *calls, last))
    found = pieces(server, [PromptMessage("user", "hi")])
    assert "".join(piece.text for piece in found) == "Hello there."
    assert "".join(piece.reasoning for piece in found) == "Let me\n\nsee."
    (call,) = found[-1].calls
    assert (call["call_id"], call["name"], call["arguments"]) == ("c", "look", '{"at":"x"}')
    assert found[-1].usage == Usage(7, 3, 5)
    assert len(found) >= 3


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (named("completed", response=ended()), "stop"),
        (
            named("incomplete", response=ended("incomplete", incomplete_details={"reason": "max_output_tokens"})),
            "length",
        ),
        (
            named("incomplete", response=ended("incomplete", incomplete_details={"reason": "content_filter"})),
            "content_filter",
        ),
    ],
)
def test_the_last_event_says_why_the_reply_ended(server: ByteServer, last: str, reason: str) -> None:
    server.script(chunked(*said("Hello"), last))
    assert reply(at(f"{server.url}/v1/responses", OPENAI_RESPONSES)).reason == reason


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([named("output_item.done", item=HELLO), named("completed", response=ended())], "Hello there."),
        (
            [named("output_item.done", item=HELLO), named("completed", response=ended("completed", HELLO))],
            "Hello there.",
        ),
        ([named("output_item.done", item=HELLO), named("completed")], "Hello there."),
        (
            [
                'event: response.output_text.delta\ndata: {"delta": "Hello there."}\n\n',
                f"event: response.completed\ndata: {json.dumps({'response': ended()})}\n\n",
            ],
            "Hello there.",
        ),
        ([text("Hello there."), "data: [DONE]\n\n"], "Hello there."),
        ([named("output_text.done", text="Hello there."), named("completed")], "Hello there."),
        ([named("refusal.done", refusal="Hello there."), named("completed")], "Hello there."),
        # A router closes the part after the first delta.
        ([text("Hello"), named("output_text.done", text="Hello"), text(" there."), named("completed")], "Hello there."),
        # A proxy asks again behind the end.
        ([*said("Hello there."), named("completed"), *said("Hello there."), named("completed")], "Hello there."),
    ],
)
def test_servers_that_know_the_protocol_in_part_are_read(server: ByteServer, events: list[str], expected: str) -> None:
    server.script(chunked(*events))
    found = reply(at(f"{server.url}/v1/responses", OPENAI_RESPONSES))
    assert (found.text, found.reason) == (expected, "stop")


@pytest.mark.parametrize("last", [[], [named("failed")], [named("error", error={"message": "x"})]])
def test_a_stream_without_its_last_event_is_cut_off(server: ByteServer, last: list[str]) -> None:
    server.script(chunked(*said("Hello"), *last))
    with pytest.raises(TransientModelError):
        pieces(server, [PromptMessage("user", "hi")])


def test_a_whole_response_needs_no_status(server: ByteServer) -> None:
    server.script(response(json.dumps({"object": "response", "output": [HELLO]})))
    assert reply(at(f"{server.url}/v1/responses", OPENAI_RESPONSES)).text == "Hello there."
    server.script(response(json.dumps({**ended(), "output_text": "Hello there."})))
    assert reply(at(f"{server.url}/v1/responses", OPENAI_RESPONSES)).text == "Hello there."


def test_a_response_that_is_not_streamed_is_read_too(server: ByteServer) -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    server.script(response(json.dumps(ended("completed", thought, HELLO, CALL))))
    (*_, last) = found = pieces(server, [PromptMessage("user", "hi")])
    assert "".join(piece.text for piece in found) == "Hello there."
    assert "".join(piece.reasoning for piece in found) == "Hm."
    assert (last.finish_reason, len(last.calls), last.usage) == ("stop", 1, Usage(7, 3, 5))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (
            named("failed", response={**ended("failed"), "error": {"code": "context_length_exceeded", "message": "x"}}),
            PromptTooLong,
        ),
        (named("failed", response={**ended("failed"), "error": {"code": "server_error", "message": "x"}}), ModelError),
        ('event: error\ndata: {"type":"error","code":"server_error","message":"x"}\n\n', ModelError),
        (named("cancelled", response=ended("cancelled")), TransientModelError),
    ],
)
def test_a_response_that_failed_is_an_error(server: ByteServer, answer: str, kind: type[ModelError]) -> None:
    server.script(chunked(*said(), answer))
    with pytest.raises(kind):
        pieces(server, [PromptMessage("user", "hi")])


def test_a_conversation_is_asked_for_as_items(server: ByteServer) -> None:
    server.script(chunked(*said("Yes"), named("completed", response=ended())))
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}}
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tool = {"type": "function", "name": "look", "description": None, "parameters": {"type": "object"}, "strict": None}
    form: dict[str, Any] = {"type": "json_schema", "name": "a", "description": None, "schema": {}, "strict": True}
    conversation = [
        PromptMessage("system", "Be brief."),
        PromptMessage("user", "see", parts=({"type": "text", "text": "see"}, image)),
        PromptMessage("assistant", "let me look", calls=(call,)),
        PromptMessage("tool", "a heart", call_id="c"),
    ]
    options = {
        "tools": [tool],
        "tool_choice": {"type": "function", "name": "look"},
        "text": {"format": form},
        "reasoning": {"effort": "low", "summary": None},
        "max_output_tokens": 7,
        "seed": 3,
        "stop": ["END"],
    }
    pieces(server, conversation, options, system_prompt="not used", temperature=0.5)
    assert server.requests == [
        {
            "model": "EleutherAI/gpt-j-6B",
            "stream": True,
            "store": False,
            "max_output_tokens": 7,
            "temperature": 0.5,
            "prompt_cache_key": "5e55",
            "instructions": "Be brief.",
            "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
            "tool_choice": {"type": "function", "name": "look"},
            "text": {"format": {"type": "json_schema", "name": "a", "schema": {}, "strict": True}},
            "reasoning": {"effort": "low"},
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "see"},
                        {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "low"},
                    ],
                },
                {"type": "message", "role": "assistant", "content": "let me look"},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "a heart"},
            ],
        }
    ]


def test_the_page_asks_with_the_instructions_of_the_settings(server: ByteServer) -> None:
    server.script(chunked(*said("Yes"), named("completed", response=ended())))
    pieces(server, [PromptMessage("assistant", "cut"), PromptMessage("user", "hi")], system_prompt="Be kind.")
    (asked,) = server.requests
    assert asked["instructions"] == "Be kind."
    assert asked["input"] == [{"type": "message", "role": "user", "content": "hi"}]


def test_stop_sequences_of_a_request_end_the_reply_whatever_the_server_does(server: ByteServer) -> None:
    server.script(chunked(*said("one ST", "OP two"), named("completed", response=ended())))
    found = pieces(server, [PromptMessage("user", "hi")], {"stop": ["STOP"]})
    assert ("".join(piece.text for piece in found), found[-1].finish_reason) == ("one", "stop")


def test_a_parameter_that_the_server_refuses_is_left_out(server: ByteServer) -> None:
    error = {"message": "Unsupported parameter: 'temperature'", "param": "temperature", "code": "unsupported_parameter"}
    refusal = json.dumps({"error": error})
    server.script(
        response(refusal, status="400 Bad Request"), chunked(*said("Yes"), named("completed", response=ended()))
    )
    pieces(server, [PromptMessage("user", "hi")], temperature=0.5)
    assert ["temperature" in asked for asked in server.requests] == [True, False]
