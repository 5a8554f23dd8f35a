"""Sends ended spans to a collector, by OTLP over HTTP, in batches from a thread. Imported only where traces are on.

The spans of a reply are known when they end, and some are those of a worker that died. So they are made as the exporter
reads them, without the SDK's tracer: that costs a tenth, and the id of a span may be fixed before.
"""

from __future__ import annotations

import os
import socket
import time

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from chatbot.tracing import Context, Span

#: Spans that a web process encodes and sends at once: all sockets wait meanwhile, about 3 ms. A worker has threads, and
#: sends as many as the SDK would, as a request costs as much as the encoding of a hundred spans.
_WEB_BATCH = 128
#: Traces that a process begins within a second at most, unless OTEL_TRACES_SAMPLER is set.
_TRACES_A_SECOND = 20.0
_SCOPE = InstrumentationScope("chatbot")
_KINDS = {kind.name: kind for kind in SpanKind}
_UNSET = Status(StatusCode.UNSET)


class _HashedOnce(Resource):
    """A resource whose hash, which the encoder asks for with each span, is computed once."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(dict(resource.attributes), resource.schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other


class Exporter:
    """A `Recorder` that reads the standard variables of OpenTelemetry."""

    def __init__(self, process: str) -> None:
        """`process` is `web` or `worker`. Raises `ValueError` for a variable that makes no sense."""
        resource = Resource.create({"service.instance.id": f"{socket.gethostname()}:{os.getpid()}"})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": f"chatbot-{process}"}))
        self._resource = _HashedOnce(resource)
        # For its sampler, which the variables choose.
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._bounded = not os.environ.get("OTEL_TRACES_SAMPLER")
        self._full_at = time.monotonic()
        given = os.environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") or process != "web"
        batch = None if given else _WEB_BATCH
        self._processor = BatchSpanProcessor(OTLPSpanExporter(), max_export_batch_size=batch)

    def samples(self, trace_id: int, parent: Context | None, name: str) -> bool:
        if self._bounded:
            return parent.sampled if parent else self._takes_one()
        above = set_span_in_context(NonRecordingSpan(_context(parent, remote=True))) if parent else None
        return self._sampler.should_sample(above, trace_id, name).decision is Decision.RECORD_AND_SAMPLE

    def _takes_one(self) -> bool:
        """Takes a trace from a bucket that holds those of a second; false when it is empty."""
        now = time.monotonic()
        full_at = max(self._full_at, now) + 1 / _TRACES_A_SECOND
        if full_at > now + 1:
            return False
        self._full_at = full_at
        return True

    def record(self, span: Span) -> None:
        status = _UNSET
        if span.error is not None:
            span.attributes["error.type"] = span.error
            status = Status(StatusCode.ERROR)
        self._processor.on_end(
            ReadableSpan(
                span.name,
                _context(span.context),
                _context(span.parent) if span.parent else None,
                self._resource,
                span.attributes,
                links=[Link(_context(link)) for link in span.links],
                kind=_KINDS[span.kind],
                status=status,
                start_time=span.start,
                end_time=span.end,
                instrumentation_scope=_SCOPE,
            )
        )

    def close(self) -> None:
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _context(context: Context, *, remote: bool = False) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, remote, TraceFlags(int(context.sampled)))
