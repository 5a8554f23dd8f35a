"""Traces over real processes, with a collector."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests

from devtools.fake_model import ModelServer
from devtools.harness.chat_client import ChatClient, history, new_session
from devtools.harness.collector import Collector
from devtools.harness.deployment import Deployment, eventually

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(scope="module")
def traced(model: ModelServer, collector: Collector) -> Iterator[Deployment]:
    with Deployment(
        f"{model.url}/v1/chat/completions",
        model_name="small",
        otel_exporter_otlp_endpoint=collector.url,
        otel_bsp_schedule_delay=100,
        log_format="json",
    ) as chat:
        yield chat


def test_a_reply_is_one_trace_from_the_client_to_the_socket(
    traced: Deployment, collector: Collector, model: ModelServer
) -> None:
    session = new_session(traced.url())
    with ChatClient(traced.url(), session["token"]) as client:
        headers = {"Authorization": f"Bearer {session['token']}", "traceparent": CALLER}
        frame = {"type": "message", "id": "one", "msg": "Hello"}
        assert (
            requests.post(traced.url() + "/messages", json=frame, headers=headers, timeout=30).json()["type"] == "ack"
        )
        client.until("message", source="bot")
        seen = json.dumps(client.frames)
    spans = collector.trace_of(
        "one", "accept message", "wait for a worker", "attempt", "claim", "chat small", "commit", "deliver"
    )
    by_name = {span.name: span for span in spans}
    trace, caller = CALLER.split("-")[1:3]
    assert len(by_name) == len(spans) == 7
    assert {span.trace_id for span in spans} == {trace}
    below = {span.name: next((s.name for s in spans if s.span_id == span.parent_id), span.parent_id) for span in spans}
    assert below == {
        "accept message": caller,
        "wait for a worker": "accept message",
        "attempt": "accept message",
        "claim": "attempt",
        "chat small": "attempt",
        "commit": "attempt",
        "deliver": "commit",
    }
    assert {span.service for span in spans} == {"chatbot-web", "chatbot-worker"}
    call = by_name["chat small"]
    asked = next(r for r in model.requests() if r.headers.get("traceparent", "").split("-")[1:2] == [trace])
    assert asked.headers["traceparent"].split("-")[2] == call.span_id
    assert call.attributes["gen_ai.usage.output_tokens"] == asked.tokens
    assert call.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    # Clients, histories and prompts hold nothing of it.
    stored = json.dumps(history(traced.url(), session["token"]))
    for text in (seen, stored, json.dumps(asked.body)):
        assert trace not in text
    # The line of the reply, which is written before its attempt ends.
    lines = [json.loads(line) for line in traced.workers[0].log.splitlines() if trace in line]
    assert any(line["message_id"] == "one" and line["span_id"] == by_name["attempt"].span_id for line in lines)


def test_a_reply_whose_worker_was_killed_is_one_trace_with_two_attempts(
    traced: Deployment, collector: Collector, model: ModelServer
) -> None:
    model.control(tokens=12, hold=5)
    with ChatClient(traced.url(), header=[f"traceparent: {CALLER}"]) as client:
        client.send("Tell me a story.", "two")
        client.until("delta")
        traced.workers[0].kill()
        model.control(hold=None)
        traced.workers[0].start()
        client.until("message", source="bot")
    spans = collector.trace_of("two", "attempt", "attempt", "wait for a worker", "commit", "deliver")
    assert len({span.trace_id for span in spans}) == 1
    first, second = [span for span in spans if span.name == "attempt"]
    accepted = next(span for span in spans if span.name == "accept message")
    assert first.parent_id == second.parent_id == accepted.span_id
    assert (first.failed, first.attributes["error.type"], first.attributes["chatbot.attempt"]) == (
        True,
        "worker_lost",
        1,
    )
    assert (second.failed, second.attributes["chatbot.attempt"], second.links) == (False, 2, [first.span_id])
    assert first.end <= second.start
    # A socket outlives its requests: each has a trace of its own, with a link.
    assert (accepted.parent_id, accepted.links) == ("", [CALLER.split("-")[2]])
    assert accepted.trace_id != CALLER.split("-")[1]


def test_a_response_is_a_trace_below_its_clients(traced: Deployment, collector: Collector) -> None:
    answer = requests.post(
        f"{traced.url()}/v1/responses",
        json={"model": "small", "input": "Hello"},
        headers={"traceparent": OTHER},
        timeout=30,
    )
    trace, caller = OTHER.split("-")[1:3]

    def message() -> str | None:
        found = (span.attributes.get("chatbot.message.id") for span in collector.spans if span.trace_id == trace)
        return next(filter(None, found), None)

    spans = collector.trace_of(eventually(message), "accept response", "attempt", "chat small", "commit", "deliver")
    assert {span.trace_id for span in spans} == {trace}
    assert next(span.parent_id for span in spans if span.name == "accept response") == caller
    items = requests.get(f"{traced.url()}/v1/responses/{answer.json()['id']}/input_items", timeout=30)
    assert trace not in answer.text + items.text


def test_the_last_spans_are_sent_before_a_process_ends(traced: Deployment, collector: Collector) -> None:
    worker = traced.worker(9, OTEL_BSP_SCHEDULE_DELAY="60000")
    traced.workers[0].stop()
    worker.start()
    with ChatClient(traced.url()) as client:
        client.send("Hello", "three")
        client.until("message", source="bot")
    assert worker.stop() == 0
    collector.trace_of("three", "attempt", "commit")
    traced.workers[0].start()
    traced.wait_until_ready()
