"""Traces: off they cost nothing; what a client sends names a trace or is ignored; spans are encoded as OTLP."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chatbot.config import Settings
from chatbot.config.settings import LogSettings
from chatbot.logs import formatter
from chatbot.protocol.client_errors import ClientError
from chatbot.tracing import (
    CLIENT,
    GRPC,
    INTERNAL,
    NOT_INSTALLED,
    NOTHING,
    SERVER,
    Context,
    Ended,
    child,
    continued,
    current,
    finish,
    new_span_id,
    on,
    root,
    start,
    stored_context,
)
from chatbot.tracing.otlp import (
    attribute,
    encode_request,
    encode_resource,
    encode_span,
    float_attribute,
    text_attribute,
)
from devtools.paths import ROOT

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def accept(parent: str | None = None) -> None:
    """Records the span of an acceptance, if it is sampled."""
    with root("accept", parent=parent) or NOTHING:
        pass


def test_without_an_endpoint_no_process_imports_what_sends_traces() -> None:
    # redis-py imports OpenTelemetry's metrics where they are installed.
    code = (
        "import sys, redis; before = set(sys.modules)\n"
        "from chatbot import tracing; from chatbot.app import create_app; from chatbot.config import load_settings\n"
        "from chatbot.worker.process import create_worker\n"
        "create_app(); create_worker(load_settings()); tracing.start('web'); tracing.start('worker')\n"
        "new = set(sys.modules) - before\n"
        "print([name for name in new if name.startswith(('opentelemetry', 'google'))], tracing.on())\n"
        "print([name for name in before if name.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter'))])"
    )
    env = {"PATH": "", "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env, check=True)
    assert done.stdout.splitlines() == ["[] False", "[]"]


ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, [GRPC]),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
            ["there are no traces, as a variable of OpenTelemetry is wrong: OTEL_BSP_MAX_QUEUE_SIZE must be a"],
        ),
        ({"OTEL_SDK_DISABLED": "true"}, []),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        ({ENDPOINT: ""}, []),
    ],
)
def test_what_keeps_traces_off_is_explained_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], said: list[str]
) -> None:
    for name, value in {ENDPOINT: "http://127.0.0.1:1", **variables}.items():
        monkeypatch.setenv(name, value)
    start("web")
    assert not on()
    assert len(caplog.messages) == len(said)
    assert all(line.startswith(text) for line, text in zip(caplog.messages, said, strict=True))


def test_without_the_packages_one_line_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.delitem(sys.modules, "chatbot.tracing.exporting", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    start("worker")
    assert not on()
    assert caplog.messages == [NOT_INSTALLED % ENDPOINT]


def test_where_there_are_no_traces_a_span_is_none() -> None:
    with child("commit") as step:
        assert (root("accept"), step, stored_context(), new_span_id()) == (None, None, "", "")
    assert continued(f"{TRACE}{SPAN}1", "attempt") is None


@pytest.mark.parametrize("flags", ["01", "00", "03"])
@pytest.mark.parametrize(("version", "rest"), [("00", ""), ("42", "-further")])
def test_a_traceparent_names_a_span(version: str, rest: str, flags: str) -> None:
    found = Context.parse(f"{version}-{TRACE}-{SPAN}-{flags}{rest}")
    assert found == (TRACE, SPAN, flags != "00")


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "x", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-01-more", f"ff-{TRACE}-{SPAN}-01"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01"),
    ],
)
def test_a_malformed_traceparent_is_ignored(text: str | None) -> None:
    assert Context.parse(text) is None


def test_what_another_version_stored_is_no_trace(recorded: list[Ended]) -> None:
    assert recorded == []
    for text in ("", f"00-{TRACE}-{SPAN}-01", f"{TRACE}{SPAN}", f"{TRACE}{SPAN}2", f"{TRACE}{SPAN}1\n"):
        assert continued(text, "attempt") is None
    span = continued(f"{TRACE}{SPAN}1", "attempt", "1" * 16)
    assert span is not None
    assert (span.trace_id, span.span_id, span.parent_id, span.sampled) == (TRACE, "1" * 16, SPAN, True)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ended]]:
    """The spans of a process with traces on, which sends none."""
    found: list[Ended] = []
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setattr("chatbot.tracing.exporting.Exporter.record", lambda _, span: found.append(span))
    start("web")
    yield found
    finish()


def test_of_many_traces_the_first_of_a_second_are_recorded(recorded: list[Ended]) -> None:
    for _ in range(200):
        accept()
    assert 20 <= len(recorded) < 200


def test_a_client_decides_whether_its_trace_is_recorded(recorded: list[Ended]) -> None:
    for _ in range(50):
        with root("accept", parent=f"00-{TRACE}-{SPAN}-00") or NOTHING as span, child("step") as step:
            assert span is not None
            assert step is None
            assert span.traceparent == f"00-{TRACE}-{span.span_id}-00"
            assert stored_context() == f"{TRACE}{span.span_id}0"
            assert (span.parent_id, span.attributes) == (SPAN, b"")
        accept(f"00-{TRACE}-{SPAN}-01")
    assert len(recorded) == 50


def test_a_sampler_of_the_variables_counts(monkeypatch: pytest.MonkeyPatch, recorded: list[Ended]) -> None:
    finish()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    start("web")
    for _ in range(100):
        accept(f"00-{TRACE}-{SPAN}-00")
    assert len(recorded) == 100


def test_an_exception_fails_its_span_and_those_around_it(recorded: list[Ended]) -> None:
    with pytest.raises(ClientError), root("accept") or NOTHING, child("store"):
        raise ClientError("too_many_pending", "Wait")
    (inner, _, trace_id, _, parent_id, *_, inner_error, _), (outer, _, of_outer, span_id, *_, error, _) = recorded
    assert (inner, inner_error, outer, error) == ("store", "too_many_pending", "accept", "too_many_pending")
    assert (trace_id, parent_id) == (of_outer, span_id)
    assert current() is None


def test_lines_of_the_log_name_the_span(recorded: list[Ended]) -> None:
    with root("accept") or NOTHING as span:
        assert span is not None
        record = logging.LogRecord("chatbot", logging.INFO, __file__, 1, "Hello", (), None)
        line = json.loads(formatter(Settings(log=LogSettings(format="json"))).format(record))
    assert (line["trace_id"], line["span_id"]) == tuple(span.traceparent.split("-")[1:3])


def test_spans_are_encoded_as_protobuf_decodes_them() -> None:
    long = "ä" * 20_000
    links = ("2" * 32 + "3" * 16,)
    given = {"yes": True, "no": False, "count": 300, "less": -1, "all": ("a",)}
    texts = {f"text {length}": "x" * length for length in range(100, 140)}
    attributes = b"".join(
        (
            text_attribute("text")(long),
            float_attribute("share")(0.5),
            *(attribute(key, value) for key, value in given.items()),
            *(text_attribute(key)(value) for key, value in texts.items()),
        )
    )
    few = text_attribute("text")("\ud800") + attribute("count", 1)
    spans = [
        encode_span(("chat small", CLIENT, TRACE, SPAN, "1" * 16, 2**60, 2**60 + 1, attributes, "timeout", links)),
        encode_span(("accept", SERVER, TRACE, SPAN, "", 5, 6, few, None, ())),
        encode_span(("claim", INTERNAL, TRACE, "", SPAN, 5, 6, b"", None, ())),
    ]
    decoded = ExportTraceServiceRequest.FromString(encode_request(encode_resource({"service.name": "x"}, "s"), spans))
    (group,) = decoded.resource_spans
    (scope,) = group.scope_spans
    assert (group.schema_url, group.resource.attributes[0].key, scope.scope.name) == ("s", "service.name", "chatbot")
    full, least, unnamed = scope.spans
    assert (len(unnamed.span_id), any(unnamed.span_id), unnamed.parent_span_id.hex()) == (8, True, SPAN)
    assert (full.trace_id.hex(), full.span_id.hex(), full.parent_span_id.hex()) == (TRACE, SPAN, "1" * 16)
    assert (full.name, full.kind, full.start_time_unix_nano, full.end_time_unix_nano) == (
        "chat small",
        3,
        2**60,
        2**60 + 1,
    )
    assert (full.status.code, full.links[0].trace_id.hex(), full.links[0].span_id.hex()) == (2, "2" * 32, "3" * 16)
    values = {pair.key: pair.value for pair in full.attributes}
    assert {key: values[key].string_value for key in texts} == texts
    assert (values["text"].string_value, values["yes"].bool_value, values["no"].bool_value) == (long, True, False)
    assert (values["count"].int_value, values["less"].int_value, values["share"].double_value) == (300, -1, 0.5)
    assert (values["all"].array_value.values[0].string_value, values["error.type"].string_value) == ("a", "timeout")
    assert (least.parent_span_id, least.kind, least.status.code, len(least.links)) == (b"", 2, 0, 0)
    assert [pair.value.string_value or pair.value.int_value for pair in least.attributes] == ["?", 1]


def test_spans_are_sent_in_batches_and_those_too_many_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[int] = []
    held = threading.Event()

    def send(_: object, request: bytes) -> None:
        held.wait()
        (group,) = ExportTraceServiceRequest.FromString(request).resource_spans
        sent.append(len(group.scope_spans[0].spans))

    monkeypatch.setattr("chatbot.tracing.exporting._Sender.send", send)
    for name, value in {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "always_on"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    start("web")
    for _ in range(30):
        accept()
    held.set()
    finish()
    lost = [int(line.split()[0]) for line in caplog.messages if "spans were dropped" in line]
    assert sum(sent) + sum(lost) == 30
    assert sum(sent) >= 10
    assert max(sent) == 4
