"""Reading an event stream in whatever chunks it arrives."""

from __future__ import annotations

import json

import pytest

from chatbot.worker.models.answers.reading import read_reply
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
