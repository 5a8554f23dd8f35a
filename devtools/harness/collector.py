"""A collector of traces: takes spans by OTLP over HTTP, and answers what came."""

from __future__ import annotations

import gzip
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from devtools.harness.deployment import eventually
from devtools.harness.ports import free_port


@dataclass(frozen=True)
class Received:
    """A span that arrived. Ids are in hexadecimal, times in epoch seconds."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: float
    end: float
    failed: bool
    attributes: dict[str, Any]
    links: list[str]


class Collector(ThreadingHTTPServer):
    """Runs within the `with`, at `url`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), _Handler)
        self.spans: list[Received] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes(group.resource.attributes)["service.name"]
            self.spans += [_received(service, span) for scope in group.scope_spans for span in scope.spans]

    def trace_of(self, message: str, *names: str) -> list[Received]:
        """The spans of the trace in which a message was accepted, by their starts, once `names` are there."""

        def complete() -> list[Received]:
            spans = list(self.spans)
            ids = {span.trace_id for span in spans if span.attributes.get("chatbot.message.id") == message}
            found = sorted((span for span in spans if span.trace_id in ids), key=lambda span: (span.start, span.end))
            left = [span.name for span in found]
            for name in names:
                if name not in left:
                    return []
                left.remove(name)
            return found

        found: list[Received] = eventually(complete, what=f"a trace has the spans {names}")
        return found

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that was killed cut its connection: that is not an error here."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="collector", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        self.server.take(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""


def _received(service: str, span: Any) -> Received:
    return Received(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
        links=[link.span_id.hex() for link in span.links],
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)
