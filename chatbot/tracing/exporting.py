"""Sends ended spans to a collector, by OTLP over HTTP, in batches from a thread. Imported only where traces are on.

The SDK chooses the sampler, describes the process and sends. Spans are encoded without its tracer (`otlp.py`): the id
of a span may be fixed before, and some spans are those of a worker that died. They are encoded when a request is sent,
many in a row: that takes a fifth of the time that each takes alone, between other work.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import cast

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from chatbot.tracing import Attribute, Context, Ended
from chatbot.tracing.otlp import encode_request, encode_resource, encode_span

logger = logging.getLogger(__name__)

#: Spans that wait at most, spans in a request, and milliseconds between requests, unless variables say otherwise.
_QUEUE, _BATCH, _DELAY = 8192, 2048, 5000
#: Spans that are encoded in a row: replies go on in between.
_IN_A_ROW = 256
#: Traces that a process begins within a second at most, unless OTEL_TRACES_SAMPLER is set.
_TRACES_A_SECOND = 20.0
#: Samplers that take each trace of which no client decides.
_ALL = ("always_on", "parentbased_always_on")


class _Sender(OTLPSpanExporter):
    def send(self, request: bytes) -> None:
        """Sends what is encoded already, which the SDK has no public method for. Retries, and logs a failure."""
        self._client.export(request)


class Exporter:
    """A `Recorder` that reads the standard variables of OpenTelemetry."""

    def __init__(self, process: str) -> None:
        """`process` is `web` or `worker`. Raises `ValueError` for a variable that makes no sense."""
        resource = Resource.create({"service.instance.id": f"{socket.gethostname()}:{os.getpid()}"})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": f"chatbot-{process}"}))
        self._resource = encode_resource(cast(dict[str, Attribute], resource.attributes), resource.schema_url)
        # For its sampler, which the variables choose.
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        chosen = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
        self._bounded, self._all = not chosen, chosen in _ALL
        self._full_at = time.monotonic()
        self._limit = _number("OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE)
        self._batch = min(_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH), self._limit)
        self._delay = _number("OTEL_BSP_SCHEDULE_DELAY", _DELAY) / 1000
        self._queue = deque[Ended]()
        self._dropped = 0
        self._closing = False
        self._wake = threading.Event()
        self._sender = _Sender()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def samples(self, trace_id: str, parent: Context | None, name: str) -> bool:
        if self._bounded:
            return parent.sampled if parent else self._takes_one()
        if self._all and parent is None:
            return True
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

    def record(self, span: Ended) -> None:
        waiting = len(self._queue)
        if waiting >= self._limit:
            self._dropped += 1
            return
        self._queue.append(span)
        if waiting >= self._batch and not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._sender.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._delay)
            self._wake.clear()
            while self._queue:
                try:
                    self._sender.send(encode_request(self._resource, self._encoded()))
                except Exception:
                    logger.exception("spans could not be sent")
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                logger.warning("%d spans were dropped: they ended faster than the collector takes them", dropped)

    def _encoded(self) -> Iterator[bytes]:
        """The spans of a request."""
        for count in range(min(len(self._queue), self._batch)):
            if count % _IN_A_ROW == 0:
                time.sleep(0)
            yield encode_span(self._queue.popleft())


def _number(variable: str, default: int) -> int:
    """A positive number in the environment. Raises `ValueError`."""
    text = os.environ.get(variable, "").strip() or str(default)
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{variable} must be a positive whole number")
    return int(text)


def _remote(context: Context) -> SpanContext:
    flags = TraceFlags(int(context.sampled))
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=flags)
