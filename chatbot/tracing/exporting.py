"""Sends ended spans to a collector, by OTLP over HTTP, in batches from a thread. Imported only where traces are on.

A span is encoded when it ends, past the SDK's tracer: the id of a span may be fixed before, some are those of a worker
that died, and the thread that sends has little to do while others want the interpreter.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import cast

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from chatbot.tracing import Attribute, Context, Span
from chatbot.tracing.otlp import encode_request, encode_resource, encode_span

#: Spans in a request at most, and those that wait; unless OTEL_BSP_… says otherwise. A request costs as much as the
#: encoding of 500 spans.
_BATCH, _QUEUE = 2048, 8192
#: Traces that a process begins within a second at most, unless OTEL_TRACES_SAMPLER is set.
_TRACES_A_SECOND = 20.0
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class _Encoded(ReadableSpan):
    """A span as it is sent. Of its other attributes the processor reads only the context."""

    context = SpanContext(1, 1, is_remote=False, trace_flags=_SAMPLED)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _Sender(OTLPSpanExporter):
    """Sends encoded spans of one resource."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        self._resource = encode_resource(cast(dict[str, Attribute], resource.attributes), resource.schema_url)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encoded = (span.data for span in cast(Sequence[_Encoded], spans))
        sent = self._client.export(encode_request(self._resource, encoded)).success
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE


class Exporter:
    """A `Recorder` that reads the standard variables of OpenTelemetry."""

    def __init__(self, process: str) -> None:
        """`process` is `web` or `worker`. Raises `ValueError` for a variable that makes no sense."""
        resource = Resource.create({"service.instance.id": f"{socket.gethostname()}:{os.getpid()}"})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": f"chatbot-{process}"}))
        # For its sampler, which the variables choose.
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._bounded = not os.environ.get("OTEL_TRACES_SAMPLER")
        self._full_at = time.monotonic()
        given = any(os.environ.get(f"OTEL_BSP_MAX_{name}") for name in ("QUEUE_SIZE", "EXPORT_BATCH_SIZE"))
        queue, batch = (None, None) if given else (_QUEUE, _BATCH)
        self._processor = BatchSpanProcessor(_Sender(resource), max_queue_size=queue, max_export_batch_size=batch)

    def samples(self, trace_id: str, parent: Context | None, name: str) -> bool:
        if self._bounded:
            return parent.sampled if parent else self._takes_one()
        above = set_span_in_context(NonRecordingSpan(_remote(parent))) if parent else None
        return self._sampler.should_sample(above, int(trace_id, 16), name).decision is Decision.RECORD_AND_SAMPLE

    def _takes_one(self) -> bool:
        """Takes a trace from a bucket that holds those of a second; false when it is empty."""
        now = time.monotonic()
        full_at = max(self._full_at, now) + 1 / _TRACES_A_SECOND
        if full_at > now + 1:
            return False
        self._full_at = full_at
        return True

    def record(self, span: Span) -> None:
        self._processor.on_end(_Encoded(encode_span(span)))

    def close(self) -> None:
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _remote(context: Context) -> SpanContext:
    flags = _SAMPLED if context.sampled else None
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=flags)
