"""The spans of a worker: the attempts at a reply, each with its claim, its model call and the step that settles it.

An attempt is a span of the trace of its request. Its id is stored with the claim: the next attempt links to it, and
records it when the worker died. Source of a model call's attributes: OpenTelemetry's semantic conventions for GenAI.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from chatbot import tracing
from chatbot.config import OPENAI_CHAT, OPENAI_COMPLETIONS, PYTHON, Settings
from chatbot.sessions.assignments import Assignment
from chatbot.tracing import CLIENT, CONSUMER, INTERNAL, NOTHING, Opened, Span
from chatbot.tracing.otlp import attribute, float_attribute, text_attribute
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled, ModelError
from chatbot.worker.stream import Stream

#: The `error.type` of an attempt whose worker ended without recording it.
WORKER_LOST = "worker_lost"
#: What the conventions call the providers of these protocols; of others the protocol's name stands there.
_PROVIDERS = {OPENAI_CHAT: "openai", OPENAI_COMPLETIONS: "openai"}
_MS = 1_000_000
_MESSAGE, _SESSION = text_attribute("chatbot.message.id"), text_attribute("gen_ai.conversation.id")
_FIRST_CHUNK = float_attribute("gen_ai.response.time_to_first_chunk")


def attempt(work: Assignment, claimed: int | None) -> Opened:
    """The span of an attempt. Records what was before it: the wait for a worker, and an attempt that its worker left.

    `claimed` is when the claim began, in epoch nanoseconds; None for a request that followed another one.
    """
    stored, _, accepted = work.trace.partition(" ")
    span = tracing.continued(stored, "attempt", work.attempt) if work.attempt else None
    if span is None or not span.sampled:
        return span or NOTHING
    now, since, number = span.start, int(accepted) * _MS, 1
    span.start = claimed or now
    if work.attempt_before:
        since, number = _follow(span, work)
    span.add("wait for a worker", min(since, span.start), span.start, span.parent_id)
    if claimed:
        span.add("claim", claimed, now, span.span_id)
    span.attributes = _attempted(work.message_id, number)
    return span


def _follow(span: Span, work: Assignment) -> tuple[int, int]:
    """Links an attempt to the one before, which it records unless its worker did.

    Returns when the wait for this attempt began, in epoch nanoseconds, and its number.
    """
    before, _, ready = work.attempt_before.partition(" ")
    since = int(float(ready)) * _MS if ready else span.start
    span_id, began, number, *recorded = before.split(":")
    span.links = (span.trace_id + span_id,)
    if not recorded:
        lost = Span("attempt", CONSUMER, span.trace_id, span_id, span.parent_id, int(began) * _MS)
        lost.attributes, lost.error = _attempted(work.message_id, int(number)), WORKER_LOST
        lost.finish(since)
    return since, int(number) + 1


def _attempted(message_id: str, number: int) -> bytes:
    return _MESSAGE(message_id) + attribute("chatbot.attempt", number)


def failed(kind: str) -> None:
    """Marks the attempt as failed."""
    if (span := tracing.current()) is not None:
        span.error = kind


def model_call(settings: Settings, call: Call, stream: Stream, generate: Callable[[], str]) -> str:
    """The result of `generate`, within the span of a model call; the model server gets it as the parent of its own."""
    attempt = tracing.current()
    if attempt is None:
        return generate()
    if not attempt.sampled:
        call.traceparent = attempt.traceparent
        return generate()
    api = settings.model.servers[0].api if settings.model.servers else PYTHON
    operation = "chat" if api in (OPENAI_CHAT, PYTHON) else "text_completion"
    ends: tuple[str, ...] = ()
    with attempt.child(f"{operation} {settings.model.name}", INTERNAL if api == PYTHON else CLIENT) as span:
        call.traceparent = span.traceparent
        try:
            finish_reason = generate()
            ends = (finish_reason,)
        except CallCancelled as cancelled:
            span.error = None if cancelled.reason == "stop" else cancelled.reason
            ends = (cancelled.reason,)
            raise
        except ModelError as error:
            span.error = error.kind
            raise
        finally:
            asked = _asked(operation, _PROVIDERS.get(api, api), settings.model.name) + _SESSION(call.session)
            span.attributes = asked + _answered(ends, call.server, stream.first_after, stream.usage)
    return finish_reason


@lru_cache(maxsize=4)
def _asked(operation: str, provider: str, model: str) -> bytes:
    """The attributes of a model call that all have."""
    names = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
    return b"".join(attribute(*pair) for pair in zip(names, (operation, provider, model), strict=True))


def _answered(ends: tuple[str, ...], server: str, first: float | None, usage: Usage | None) -> bytes:
    """The attributes of a model call that are known at its end."""
    found = _address(server) if server else b""
    if ends:
        found += attribute("gen_ai.response.finish_reasons", ends)
    if first is not None:
        found += _FIRST_CHUNK(first)
    if usage is not None and not usage.estimated:
        found += attribute("gen_ai.usage.input_tokens", usage.prompt or 0)
        found += attribute("gen_ai.usage.output_tokens", usage.completion or 0)
        if usage.cached:
            found += attribute("gen_ai.usage.cache_read.input_tokens", usage.cached)
    return found


@lru_cache(maxsize=64)
def _address(server: str) -> bytes:
    parts = urlsplit(server)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return attribute("server.address", parts.hostname or "") + attribute("server.port", port)
