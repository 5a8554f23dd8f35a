"""Traces: off they cost nothing; what a client sends names a trace or is ignored."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chatbot.tracing import GRPC, NOT_INSTALLED, Context, child, continued, new_span_id, on, root, start, traceparent
from devtools.paths import ROOT

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


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
            ["there are no traces, as a variable of OpenTelemetry is wrong: max"],
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
    with root("accept", parent=f"00-{TRACE}-{SPAN}-01") as span, child("commit") as step:
        assert (span, step, traceparent(), new_span_id()) == (None, None, "", "")
    assert continued(f"00-{TRACE}-{SPAN}-01", "attempt") is None


@pytest.mark.parametrize("flags", ["01", "00", "03"])
@pytest.mark.parametrize(("version", "rest"), [("00", ""), ("42", "-further")])
def test_a_traceparent_names_a_span(version: str, rest: str, flags: str) -> None:
    found = Context.parse(f"{version}-{TRACE}-{SPAN}-{flags}{rest}")
    assert found == (int(TRACE, 16), int(SPAN, 16), flags != "00")
    assert found.traceparent == f"00-{TRACE}-{SPAN}-{'00' if flags == '00' else '01'}"


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "x", f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-01-more", f"ff-{TRACE}-{SPAN}-01"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01"),
    ],
)
def test_a_malformed_traceparent_is_ignored(text: str | None) -> None:
    assert Context.parse(text) is None
