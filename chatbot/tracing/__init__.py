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
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from typing import NamedTuple, Protocol, Self

logger = logging.getLogger(__name__)

#: Kinds of spans, as OpenTelemetry names them.
INTERNAL, SERVER, CLIENT, CONSUMER = "INTERNAL", "SERVER", "CLIENT", "CONSUMER"

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
#: Later versions may add fields behind those of version 00; ff is none.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")


class Context(NamedTuple):
    """What names a span to other processes. Ids are in hexadecimal, 32 and 16 digits."""

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

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


class Recorder(Protocol):
    """Samples traces and takes ended spans. Both without blocking."""

    def samples(self, trace_id: str, parent: Context | None, name: str) -> bool:
        """Whether a trace that this program begins, or goes on with below a client's span, is recorded."""

    def record(self, span: Span) -> None:
        """Takes a span that has ended."""

    def close(self) -> None:
        """Sends what is left."""


class Span:
    """A step of a trace. As a context it is the current span, and ends with it; an exception makes it a failed one."""

    __slots__ = ("_token", "context", "describe", "end", "error", "kind", "links", "name", "parent", "start")

    def __init__(
        self,
        name: str,
        context: Context,
        parent: Context | None,
        *,
        kind: str = INTERNAL,
        start: int | None = None,
        links: tuple[Context, ...] = (),
    ) -> None:
        """`start` in epoch nanoseconds, now by default."""
        self.name, self.context, self.parent, self.kind, self.links = name, context, parent, kind, links
        self.start = time.time_ns() if start is None else start
        self.end = 0
        #: Returns the attributes, once, at the end of a sampled span.
        self.describe: Callable[[], Mapping[str, Attribute]] = dict
        #: The class of the error with which the step ended.
        self.error: str | None = None
        self._token: Token[Span | None] | None = None

    def child(self, name: str, *, kind: str = INTERNAL, start: int | None = None) -> Span:
        """A step of this one."""
        above = self.context
        return Span(name, Context(above.trace_id, _new_span_id(), above.sampled), above, kind=kind, start=start)

    def sibling(self, name: str, start: int) -> Span:
        """A step beside this one."""
        beside = self.context
        return Span(name, Context(beside.trace_id, _new_span_id(), beside.sampled), self.parent, start=start)

    def drop(self) -> None:
        """Has the span not recorded: another process records it."""
        self.context = self.context._replace(sampled=False)

    def finish(self, end: int | None = None) -> None:
        """Ends the span, now or at `end`, in epoch nanoseconds."""
        if self.context.sampled and _recorder is not None:
            self.end = max(time.time_ns() if end is None else end, self.start)
            _recorder.record(self)

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


def traceparent() -> str:
    """What stands for the current span in another process; '' without one."""
    span = _current.get()
    return span.context.traceparent if span is not None else ""


def root(
    name: str,
    *,
    kind: str = SERVER,
    parent: str | None = None,
    link: str | None = None,
    describe: Callable[[], Mapping[str, Attribute]] = dict,
) -> Opened:
    """A span that begins a trace in this program. `parent` and `link` are the client's, as `traceparent` has them."""
    if _recorder is None:
        return NOTHING
    above = Context.parse(parent)
    trace_id = above.trace_id if above else f"{random.getrandbits(128) or 1:032x}"
    context = Context(trace_id, _new_span_id(), _recorder.samples(trace_id, above, name))
    linked = Context.parse(link)
    span = Span(name, context, above, kind=kind, links=(linked,) if linked else ())
    span.describe = describe
    return span


def continued(traceparent: str, name: str, span_id: str = "", *, kind: str = CONSUMER) -> Span | None:
    """A span below one of another process of this program, which has decided whether the trace is sampled.

    None where there are no traces. `span_id` is its id, if that is fixed.
    """
    parent = Context.parse(traceparent) if _recorder is not None else None
    if parent is None:
        return None
    return Span(name, Context(parent.trace_id, span_id or _new_span_id(), parent.sampled), parent, kind=kind)


def child(name: str, *, kind: str = INTERNAL) -> Opened:
    """A step of the current span; none where there is no current one, or its trace is not sampled."""
    span = _current.get()
    return NOTHING if span is None or not span.context.sampled else span.child(name, kind=kind)


def new_span_id() -> str:
    """An id for a span to come, '' where there are no traces."""
    return "" if _recorder is None else _new_span_id()


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


def _new_span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"
