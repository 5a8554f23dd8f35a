"""Chat completions over HTTP. Source: the API reference of OpenAI.

Each is a request of a session that ends with it: the client holds the conversation.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from flask import Blueprint, Response

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.chat import (
    CallDeltas,
    chunk,
    completion,
    finish_reason,
    includes_usage,
    parse_chat,
    text_chunks,
    usage_chunk,
)
from chatbot.protocol.openai.chat_params import chat_names
from chatbot.protocol.openai.failures import request_fault
from chatbot.protocol.openai.response import INTERRUPTED, View
from chatbot.web.answers import json_answer
from chatbot.web.error_answers import error_body
from chatbot.web.openai.body import idempotency, read_json
from chatbot.web.openai.responses import leave, service, stream
from chatbot.web.openai.service import Created, ResponseService
from chatbot.web.openai.serving import DONE, data_text, wait_for_end


def add_routes(openai: Blueprint) -> None:
    """Adds the route of chat completions."""
    openai.post("/chat/completions")(complete)


def complete() -> Response:
    """A completion: whole, or as a stream."""
    document = read_json()
    steps = service()
    with chat_names(document):
        asked, with_usage = parse_chat(document), includes_usage(document)
        asked = replace(asked, repeats=idempotency(document))
        created = steps.create(asked)
    if asked.stream:
        return stream(steps, created, _chunks(steps, created, with_usage=with_usage))
    try:
        with steps.follow_new(created) as follower:
            view = _named(wait_for_end(follower))
    finally:
        leave(steps, created, done=True)
    if view.status == "failed":
        raise _error(view)
    return json_answer(completion(view), cache=False)


def _chunks(steps: ResponseService, created: Created, *, with_usage: bool) -> Generator[str | None, None, None]:
    """The chunks of a stream."""
    sent, thought, calls = "", "", CallDeltas()
    with steps.follow_new(created) as follower:
        first = _named(follower.view)
        text_chunk = text_chunks(first)
        yield data_text(chunk(first, {"role": "assistant", "content": ""}))
        for found in follower:
            if found is None:
                yield None
                continue
            called = calls.new(found)
            if called is None or not found.text.startswith(sent) or found.status == "failed":
                yield data_text({"error": error_body(_error(found))})
                return
            new, sent = found.text[len(sent) :], found.text
            parts = [f"data: {text_chunk(new)}\n\n"] if new else []
            # What was thought before an attempt that failed was sent, and stays.
            if len(found.reasoning) > len(thought) and found.reasoning.startswith(thought):
                parts.insert(0, data_text(chunk(first, {"reasoning_content": found.reasoning[len(thought) :]})))
                thought = found.reasoning
            if called:
                parts.append(data_text(chunk(first, {"tool_calls": called})))
            if found.ended:
                parts += [*map(data_text, _last(_named(found), with_usage=with_usage)), DONE]
            if parts:
                yield "".join(parts)


def _last(view: View, *, with_usage: bool) -> Iterator[dict[str, object]]:
    yield chunk(view, {}, finish_reason(view))
    if with_usage:
        yield usage_chunk(view)


def _error(view: View) -> ClientError:
    """The error of a completion that failed, or whose text began anew after it was sent."""
    fault = request_fault(view.failure, "messages")
    return fault or ClientError("model_error", view.failure or INTERRUPTED, status=502)


def _named(view: View) -> View:
    """The id of a completion leads nowhere: its session ends with it."""
    return replace(view, id=f"chatcmpl-{view.reply_id}")
