"""Streams of server-sent events at the edges of the format."""

from __future__ import annotations

import json

import pytest

from chatbot.worker.models.errors import PermanentModelError
from tests.support.models import answer, answering, ask, at


def test_an_event_without_an_end_is_an_error() -> None:
    line = b"data: " + b"a" * 65_000 + b"\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    with answering(head + line * 200) as url, pytest.raises(PermanentModelError, match="an event is longer than"):
        ask(at(url), "hello")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_stream_may_begin_with_a_byte_order_mark_and_use_either_line_end(end: str) -> None:
    events = [{"token": {"text": "Hi"}}, {"token": {"text": "."}, "generated_text": "Hi."}]
    body = "\ufeff" + "".join(f": quiet{end}data:{json.dumps(event)}{end}{end}" for event in events)
    with answering(answer("200 OK", body, "text/event-stream")) as url:
        assert ask(at(url), "hello") == ("Hi.", "stop")
