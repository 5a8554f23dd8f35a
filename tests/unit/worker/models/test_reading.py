"""Reading an event stream in whatever chunks it arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatbot.worker.models.answers.parts import Part, part_of, plain_text
from chatbot.worker.models.answers.reading import read_reply
from chatbot.worker.models.answers.tool_calls import ToolCalls
from chatbot.worker.models.answers.usage import usage_of
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import TransientModelError
from chatbot.worker.models.http.response import ModelResponse


class _Response(ModelResponse):
    """A body that arrives in the given chunks."""

    framed = True

    def __init__(self, *chunks: str) -> None:
        super().__init__(Call(30), 30)
        self.status, self.headers = 200, {"Content-Type": "text/event-stream"}
        self._arriving = [chunk.encode() for chunk in chunks]

    def close(self) -> None: ...

    def _read(self) -> bytes:
        return self._arriving.pop(0) if self._arriving else b""

    def _allow_silence(self, seconds: float) -> None: ...


def _tokens(*texts: str) -> str:
    return "".join(f"data:{json.dumps({'token': {'text': text}, 'details': None})}\n\n" for text in texts)


def test_chunks_that_arrive_together_are_one_and_wait_for_no_others() -> None:
    response = _Response(_tokens("One", " two"), "data: ping\n\n", _tokens(" three"))
    reply = read_reply(response)
    assert next(reply)[:1] == ("One two",)
    assert len(response._arriving) == 2
    assert [piece.text for piece in reply] == [" three", ""]


def test_the_chunks_before_an_error_are_read() -> None:
    error = {"error": "out of memory", "error_type": "generation"}
    reply = read_reply(_Response(_tokens("One", " two") + f"data:{json.dumps(error)}\n\n"))
    piece = next(reply)
    assert (piece.text, piece.chunks) == ("One two", 2)
    with pytest.raises(TransientModelError):
        next(reply)


_PLAIN_TOKEN = {
    "index": 3,
    "token": {"id": 9, "text": " two", "special": False},
    "generated_text": None,
    "details": None,
}
_PLAIN_CHOICE = {
    "id": "x",
    "choices": [{"index": 0, "delta": {"content": " two"}, "finish_reason": None}],
    "usage": None,
}


def _variants(plain: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The object with one more or another field, at each of its levels."""
    fields = {
        "error": "out of memory",
        "generated_text": "One two",
        "details": {"finish_reason": "length"},
        "finish_reason": "stop",
        "finishReason": "STOP",
        "stop_reason": "end_turn",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        "timings": {"prompt_n": 3},
        "x_groq": {"usage": {"prompt_tokens": 3}},
        "special": True,
        "index": 1,
        "reasoning_content": "so",
        "refusal": "no",
        "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}],
        "text": 7,
        "content": None,
        "type": "response.output_text.delta",
        "object": "error",
    }
    for name, value in fields.items():
        yield {**plain, name: value}
        if "token" in plain:
            yield {**plain, "token": {**plain["token"], name: value}}
        else:
            choice = plain["choices"][0]
            yield {**plain, "choices": [{**choice, name: value}]}
            yield {**plain, "choices": [{**choice, "delta": {**choice["delta"], name: value}}]}


@pytest.mark.parametrize("plain", [_PLAIN_TOKEN, _PLAIN_CHOICE])
def test_an_object_that_counts_as_plain_text_says_nothing_else(plain: dict[str, Any]) -> None:
    assert plain_text(plain) == " two"
    for document in _variants(plain):
        if (text := plain_text(document)) is not None:
            assert part_of(document) == Part(text, tokens=int("token" in document)), document
            assert usage_of(document, None) is None, document
            assert not ToolCalls().read(document), document
