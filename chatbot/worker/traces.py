"""The spans of a worker: the attempts at a reply, each with its claim, its model call and the step that settles it.

An attempt is a span of the trace of its request. Its id is stored with the claim: the next attempt links to it, and
records it when the worker died. Source of a model call's attributes: OpenTelemetry's semantic conventions for GenAI.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from chatbot import tracing
from chatbot.config import OPENAI_CHAT, OPENAI_COMPLETIONS, PYTHON, Settings
from chatbot.sessions.assignments import Assignment
from chatbot.tracing import CLIENT, CONSUMER, INTERNAL, NOTHING, Attribute, Opened, Span
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import CallCancelled, ModelError
from chatbot.worker.stream import Stream

#: The `error.type` of an attempt whose worker ended without recording it.
WORKER_LOST = "worker_lost"
#: What the conventions call the providers of these protocols; of others the protocol's name stands there.
_PROVIDERS = {OPENAI_CHAT: "openai", OPENAI_COMPLETIONS: "openai"}
_ASKED = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.conversation.id")
_MS = 1_000_000


def attempt(work: Assignment, claimed: int | None) -> Opened:
    """The span of an attempt. Records what was before it: the wait for a worker, and an attempt that its worker left.

    `claimed` is when the claim began, in epoch nanoseconds; None for a request that followed another one.
    """
    traceparent, _, accepted = work.trace.partition(" ")
    span = tracing.continued(traceparent, "attempt", work.attempt)
    if span is None or not work.attempt:
        return NOTHING
    if not span.context.sampled:
        return span
    now, since, number = span.start, int(accepted) * _MS, 1
    span.start = claimed or now
    if work.attempt_before:
        since, number = _follow(span, work)
    span.sibling("wait for a worker", min(since, span.start)).finish(span.start)
    if claimed:
        span.child("claim", start=claimed).finish(now)
    span.describe = partial(_attempted, work.message_id, number)
    return span


def _follow(span: Span, work: Assignment) -> tuple[int, int]:
    """Links an attempt to the one before, which it records unless its worker did.

    Returns when the wait for this attempt began, in epoch nanoseconds, and its number.
    """
    before, _, ready = work.attempt_before.partition(" ")
    since = int(float(ready)) * _MS if ready else span.start
    span_id, began, number, *recorded = before.split(":")
    context = span.context._replace(span_id=span_id)
    span.links = (context,)
    if not recorded:
        lost = Span("attempt", context, span.parent, kind=CONSUMER, start=int(began) * _MS)
        lost.describe, lost.error = partial(_attempted, work.message_id, int(number)), WORKER_LOST
        lost.finish(since)
    return since, int(number) + 1


def _attempted(message_id: str, number: int) -> dict[str, Attribute]:
    return {"chatbot.message.id": message_id, "chatbot.attempt": number}


def failed(kind: str) -> None:
    """Marks the attempt as failed."""
    if (span := tracing.current()) is not None:
        span.error = kind


def model_call(settings: Settings, call: Call, stream: Stream, generate: Callable[[], str]) -> str:
    """The result of `generate`, within the span of a model call; the model server gets it as the parent of its own."""
    attempt = tracing.current()
    if attempt is None:
        return generate()
    if not attempt.context.sampled:
        call.traceparent = attempt.context.traceparent
        return generate()
    api = settings.model.servers[0].api if settings.model.servers else PYTHON
    operation = "chat" if api in (OPENAI_CHAT, PYTHON) else "text_completion"
    ends: tuple[str, ...] = ()
    with attempt.child(f"{operation} {settings.model.name}", kind=INTERNAL if api == PYTHON else CLIENT) as span:
        call.traceparent = span.context.traceparent
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
            asked = (operation, _PROVIDERS.get(api, api), settings.model.name, call.session)
            span.describe = partial(_called, asked, ends, call.server, stream.first_after, stream.usage)
    return finish_reason


def _called(
    asked: tuple[str, str, str, str], ends: tuple[str, ...], server: str, first: float | None, usage: Usage | None
) -> dict[str, Attribute]:
    """The attributes of a model call; `asked` are its operation, its provider, the model and the session."""
    attributes: dict[str, Attribute] = dict(zip(_ASKED, asked, strict=True))
    if ends:
        attributes["gen_ai.response.finish_reasons"] = ends
    if first is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = first
    if server:
        parts = urlsplit(server)
        attributes["server.address"] = parts.hostname or ""
        attributes["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
    if usage is not None and not usage.estimated:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt or 0
        attributes["gen_ai.usage.output_tokens"] = usage.completion or 0
        if usage.cached:
            attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached
    return attributes
