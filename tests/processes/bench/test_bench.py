"""The benchmarks: small ones run from end to end, and the load generator detects what it must detect."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from bench.load_generator import Client, Talk, close_all, connect_all
from bench.paced_model import Pace, PacedModel
from bench.profile import WEB_KINDS, WORKER_KINDS
from bench.report import print_outcome
from bench.results import Row, at_least, at_most
from bench.suite import BENCHMARKS
from bench.system import Options, chat, run
from devtools.paths import ROOT

T = TypeVar("T")


def alone(work: Callable[[], T]) -> T:
    """Runs `work()` in a separate thread: Playwright may have left a running event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def test_clients_talk_with_the_chat_and_every_reply_is_counted_once() -> None:
    with PacedModel() as model, chat(model) as system:

        async def main() -> None:
            clients = system.clients(5)
            system.give_history(clients[0], 10)
            await connect_all(clients, system.url)
            model.set(Pace(first=0.05, interval=0.01, tokens=12, stamped=True))
            # A worker's first replies wait for its listener.
            result, cost = await system.talk(clients, 1.0, 1.5)
            system.check_history(clients, result)
            assert result.kept, result
            assert result.acknowledged == result.answered == result.sent > len(result.latencies) > 5
            # First token after 50 ms, the last 110 ms later.
            assert min(result.latencies) > 0.16
            assert 0.05 < min(result.first) < min(result.latencies)
            assert 0 < min(result.token_delays) < 0.1
            assert cost.cpu["web"] > 0
            assert cost.cpu["worker"] > 0
            assert model.sent()["replies"] == result.answered
            await close_all(clients)

        alone(lambda: run(main()))


def test_a_benchmark_runs_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    with PacedModel() as model:
        outcome = alone(lambda: BENCHMARKS["generator"].measure(Options(runs=1, scale=0.1), model))
    print_outcome(outcome)
    printed = capsys.readouterr().out
    assert "generator, 50 clients" in printed
    assert outcome.series["generator_rate"] > 500


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([("ack", {}), ("reply", {}), ("reply", {})], {"doubled": 1}),
        ([("ack", {}), ("reply", {"reply_to": "m7"})], {"out_of_order": 1, "waiting": 1}),
        ([("ack", {}), ("reply", {"msg": "something else"})], {"problems": 1}),
        ([("reply", {})], {"problems": 1}),
        ([("ack", {}), ("delta", {"msg": "You said"}), ("reply", {})], {"problems": 1}),
        ([("ack", {}), ("reply", {})], {}),
    ],
)
def test_the_load_generator_detects_a_broken_promise(
    frames: list[tuple[str, dict[str, Any]]], expected: dict[str, int]
) -> None:
    client, talk = Client(1, "token"), Talk()
    client.on_ws_connected(_Wire())  # type: ignore[arg-type]
    client.on_done = lambda _: None
    client.say(talk)
    whole = "You said: client 1 asks 1 ."
    for kind, fields in frames:
        frame: dict[str, Any] = {"type": kind, "id": "m1"}
        if kind == "delta":
            frame |= {"id": "r1", "reply_to": "m1", "offset": 0, "msg": whole}
        elif kind == "reply":
            frame |= {"type": "message", "id": "r1", "reply_to": "m1", "source": "bot", "msg": whole}
        client.take(json.dumps({**frame, **fields}).encode())
    result = talk.result
    found = {"doubled": result.doubled, "out_of_order": result.out_of_order, "problems": len(result.problems)}
    assert {**found, "waiting": talk.waiting} == {
        "doubled": 0,
        "out_of_order": 0,
        "problems": 0,
        "waiting": 0,
        **expected,
    }


def test_a_row_says_whether_its_target_is_met() -> None:
    def verdict(ratio: float, broken: str = "") -> str:
        return Row("what", "target", "measured", ratio, 3, broken=broken).verdict

    assert verdict(at_most(1.5, 2.0)) == "met"
    assert verdict(at_most(1.95, 2.0)) == "met, at its limit"
    assert verdict(at_least(186, 190)) == "not met, at its limit"
    assert verdict(at_least(100, 190)) == "not met"
    assert verdict(at_most(1.5, 2.0), broken="1 lost") == "not met"


class _Wire:
    def send(self, *_: object) -> None:
        """Accepts what a client sends."""


@pytest.mark.parametrize("kinds", [WEB_KINDS, WORKER_KINDS])
def test_the_profile_knows_the_files_of_the_product(kinds: Sequence[tuple[str, str]]) -> None:
    marks = [mark for _, together in kinds for mark in together.split(" & ") if mark.startswith("chatbot/")]
    assert marks
    assert [mark for mark in marks if not (ROOT / mark).exists()] == []
