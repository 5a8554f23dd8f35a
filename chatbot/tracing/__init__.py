"""Traces: one for each request for a reply, from its acceptance to the sockets. Source: W3C Trace Context.

Off unless an endpoint is set; then nothing of OpenTelemetry is imported, and a span is None. The context of a trace is
stored in Redis with the request, as tasks have none: a sweep may have sent them, and a reply may take several attempts.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from typing import NamedTuple, Protocol, Self

logger = logging.getLogger(__name__)

#: Kinds of spans, as OpenTelemetry names them.
INTERNAL, SERVER, CLIENT, CONSUMER = "INTERNAL", "SERVER", "CLIENT", "CONSUMER"

#: A span that has ended: name; kind; the ids of its trace, its own ('' for a new one) and its parent's ('' for none);
#: start and end in epoch nanoseconds; attributes, error and links as in `Span`. The garbage collector does
#: not follow plain tuples of such values while they wait.
Ended = tuple[str, str, str, str, str, int, int, bytes, str | None, tuple[str, ...]]

Attribute = str | bool | int | float | tuple[str, ...]

#: Seconds that the end of a process waits for the last spans to be sent.
_FLUSH_TIMEOUT = 3.0
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
NOT_INSTALLED = (
    "there are no traces, though %s is set: OpenTelemetry is not installed; pip install -r requirements-tracing.txt, "
    "or chatbot[tracing]"
)
GRPC = "there are no traces: they are sent by http/protobuf alone, and OTEL_EXPORTER_OTLP_PROTOCOL says otherwise"
#: Later versions may add fields behind those of version 00; ff is not a version.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")

#: An older version stores a `traceparent`.
_STORED = re.compile(r"[0-9a-f]{48}[01]\Z")


class Context(NamedTuple):
    """What names a span of a client. Ids are in hexadecimal, 32 and 16 digits."""

    trace_id: str
    span_id: str
    sampled: bool

    @classmethod
    def parse(cls, traceparent: str | None) -> Context | None:
        """The context in the header `traceparent`; None for a malformed one."""
        found = _TRACEPARENT.match(traceparent) if traceparent else None
        if not found or (found[1] == "00" and found[5]):
            return None
        return cls(found[2], found[3], bool(int(found[4], 16) & 1))


class Recorder(Protocol):
    """Samples traces and takes ended spans. Both without blocking."""

    def samples(self, trace_id: str, parent: Context | None, name: str) -> bool:
        """Whether a trace that this program begins, or goes on with below a client's span, is recorded."""

    def record(self, span: Ended) -> None:
        """Takes a span that has ended."""

    def close(self) -> None:
        """Sends what is left."""


class Span:
    """A step of a trace. As a context it is the current span, and ends with it; an exception makes it a failed one."""

    __slots__ = (
        *("_token", "attributes", "error", "kind", "links", "name"),
        *("parent_id", "sampled", "span_id", "start", "trace_id"),
    )

    def __init__(self, name: str, kind: str, trace_id: str, span_id: str, parent_id: str = "", start: int = 0) -> None:
        """A sampled one. `parent_id` is '' for the first of a trace; `start` in epoch nanoseconds, 0 for now."""
        self.name, self.kind = name, kind
        self.trace_id, self.span_id, self.parent_id = trace_id, span_id, parent_id
        self.sampled = True
        self.start = start or time.time_ns()
        #: As `otlp.py` encodes them: nothing where the span is not sampled.
        self.attributes = b""
        #: The ids of traces and spans, each pair in a text.
        self.links: tuple[str, ...] = ()
        #: The class of the error with which the step ended.
        self.error: str | None = None
        self._token: Token[Span | None] | None = None

    @property
    def traceparent(self) -> str:
        """What stands for the span in a header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self, name: str, kind: str = INTERNAL) -> Span:
        """A step of this one, which is sampled."""
        return Span(name, kind, self.trace_id, any_span_id(), self.span_id)

    def add(self, name: str, start: int, end: int, parent_id: str) -> None:
        """Records another span of the trace, which has ended. `start` and `end` in epoch nanoseconds."""
        if _recorder is not None:
            _recorder.record((name, INTERNAL, self.trace_id, "", parent_id, start, end, b"", None, ()))

    def finish(self, end: int = 0) -> None:
        """Ends the span at `end`, in epoch nanoseconds, 0 for now."""
        if self.sampled and _recorder is not None:
            end = max(end or time.time_ns(), self.start)
            ids = (self.trace_id, self.span_id, self.parent_id)
            _recorder.record((self.name, self.kind, *ids, self.start, end, self.attributes, self.error, self.links))

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._token is not None:
            _current.reset(self._token)
        if error is not None and self.error is None:
            self.error = str(getattr(error, "code", "") or type(error).__name__)
        self.finish()


_current: ContextVar[Span | None] = ContextVar("span", default=None)
_recorder: Recorder | None = None

#: A span, as a context, where there are no traces.
NOTHING: AbstractContextManager[Span | None] = nullcontext()
Opened = AbstractContextManager[Span | None]


def on() -> bool:
    """Whether this process records traces."""
    return _recorder is not None


def current() -> Span | None:
    """The span in which this code runs."""
    return _current.get()


def stored_context() -> str:
    """What stands for the current span in Redis; '' without one.

    The 32 digits of its trace, the 16 of its own, and 1 where the trace is sampled, else 0. With a time behind it, it
    fits into the compact form that Redis has for hashes with values of at most 64 bytes.
    """
    span = _current.get()
    return "" if span is None else f"{span.trace_id}{span.span_id}{'1' if span.sampled else '0'}"


def root(name: str, *, parent: str | None = None, link: str | None = None) -> Span | None:
    """A span that begins a trace in this program, None where there are no traces.

    `parent` and `link` are the client's, as `traceparent` has them.
    """
    if _recorder is None:
        return None
    above, linked = Context.parse(parent), Context.parse(link)
    trace_id = above.trace_id if above else f"{random.getrandbits(128) or 1:032x}"
    span = Span(name, SERVER, trace_id, any_span_id(), above.span_id if above else "")
    span.sampled = _recorder.samples(trace_id, above, name)
    if linked is not None:
        span.links = (linked.trace_id + linked.span_id,)
    return span


def continued(stored: str, name: str, span_id: str = "") -> Span | None:
    """A span below one of another process of this program, which has decided whether the trace is sampled.

    None where there are no traces. `stored` is what `stored_context` returned there, `span_id` an id that is fixed.
    """
    if _recorder is None or not _STORED.match(stored):
        return None
    span = Span(name, CONSUMER, stored[:32], span_id or any_span_id(), stored[32:48])
    span.sampled = stored[48] == "1"
    return span


def child(name: str) -> Opened:
    """A span below the current one; `NOTHING` without a current one, or where its trace is not sampled."""
    span = _current.get()
    return NOTHING if span is None or not span.sampled else span.child(name)


def new_span_id() -> str:
    """An id for a span to come, '' where there are no traces."""
    return "" if _recorder is None else any_span_id()


def start(process: str) -> None:
    """Records traces if the environment says so; without the packages it logs which are missing.

    `process` names the service unless the environment does. Call it in the process that records: no fork may follow.
    """
    global _recorder  # noqa: PLW0603 - of the process, like the current span
    variable = _asked_for(os.environ)
    if variable is None:
        return
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        logger.warning(GRPC)
        return
    try:
        from chatbot.tracing.exporting import Exporter
    except ImportError:
        logger.warning(NOT_INSTALLED, variable)
        return
    try:
        _recorder = Exporter(process)
    except (ValueError, OSError) as error:
        logger.warning("there are no traces, as a variable of OpenTelemetry is wrong: %s", error)


def finish() -> None:
    """Ends the recording; waits for a moment until what is left was sent."""
    global _recorder
    recorder, _recorder = _recorder, None
    if recorder is not None:
        # A collector that does not answer would hold the process for half a minute.
        thread = threading.Thread(target=recorder.close, name="flush", daemon=True)
        thread.start()
        thread.join(_FLUSH_TIMEOUT)


def _asked_for(environ: Mapping[str, str]) -> str | None:
    """The variable that turns traces on, unless another one turns them off."""
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() == "none":
        return None
    return next((name for name in _ENDPOINTS if environ.get(name, "").strip()), None)


def any_span_id() -> str:
    return "%016x" % (random.getrandbits(64) or 1)
