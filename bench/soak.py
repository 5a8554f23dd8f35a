"""Users come, talk and leave for minutes; memory and latency must not grow."""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench import report, results
from bench.load_generator import Client, Talk, close_all, drain, quantile
from bench.paced_model import PacedModel
from bench.results import Outcome, Row, Table, median
from bench.system import STREAMED, ChatSystem, chat, run

#: Replies that a user waits for before leaving; another user takes the place.
_REPLIES = 20
#: Number of measurements.
_SAMPLES = 40
#: Share of the time at the start, in which caches and pools fill, that is left out of the fit.
_WARM_UP = 0.25
#: Growth over the fitted time that counts as flat, as a share of the mean.
_FLAT_MEMORY = 0.05
_FLAT_LATENCY = 0.10
#: Bytes of growth that count as flat in any case: the unit in which an allocator grows.
_GRAIN = 2e6


def main() -> int:
    """Exit status 1 when memory or latency grew, or replies were lost, doubled or out of order."""
    parser = argparse.ArgumentParser(prog="make bench-soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--users", type=int, default=50, help="users at once (50)")
    options = parser.parse_args()
    with PacedModel() as model:
        outcome = soak(model, options.minutes, options.users)
    report.print_outcome(outcome)
    results.save("soak", outcome)
    report.write()
    return 0 if all(row.verdict.startswith("met") for row in outcome.rows) else 1


def soak(model: PacedModel, minutes: float, users: int) -> Outcome:
    """Runs the soak. Sessions live for a tenth of the time, so that as many end as begin."""
    seconds = minutes * 60
    samples: list[dict[str, float]] = []
    began, load = time.monotonic(), os.getloadavg()[0]
    with chat(model, session_ttl=max(int(seconds / 10), 5)) as system:
        talk = Talk()

        async def main() -> None:
            model.set(STREAMED)
            crowd = [asyncio.create_task(_user(system, talk)) for _ in range(users)]
            start = time.monotonic()
            for number in range(1, _SAMPLES + 1):
                await asyncio.sleep(max(start + seconds * number / _SAMPLES - time.monotonic(), 0))
                samples.append(_sample(system, talk, (time.monotonic() - start) / 60))
            await drain(talk)
            await asyncio.gather(*crowd)

        talk.open()
        run(main())
        talk.close()
    outcome = _judge(samples, talk, users)
    outcome.seconds = time.monotonic() - began
    outcome.load_before, outcome.load_after = load, os.getloadavg()[0]
    return outcome


async def _user(system: ChatSystem, talk: Talk) -> None:
    while talk.sending:
        client = system.clients(1)[0]
        await client.connect(system.url)
        left, done = _REPLIES, asyncio.Event()

        def next_one(client: Client) -> None:
            nonlocal left
            left -= 1
            if left and talk.sending:
                client.say(talk)
            else:
                done.set()  # noqa: B023 - called in this iteration only

        client.on_done = next_one
        client.say(talk)
        await done.wait()
        await close_all([client])


def _sample(system: ChatSystem, talk: Talk, minute: float) -> dict[str, float]:
    latencies = talk.result.latencies
    taken = {"minute": minute, "p50": quantile(latencies, 0.5), "p95": quantile(latencies, 0.95), "n": len(latencies)}
    latencies.clear()
    talk.result.first.clear()
    return {**taken, **system.memory()}


def _judge(samples: Sequence[dict[str, float]], talk: Talk, users: int) -> Outcome:
    fitted = samples[int(len(samples) * _WARM_UP) :]
    minutes = [s["minute"] for s in fitted]
    table = Table(
        f"Soak: {round(samples[-1]['minute'], 1):g} minutes, {users} users, model at 0.5 s in 25 tokens",
        ["what", "mean", "growth over the fitted time", "verdict"],
        [],
        f"A straight line through all but the first {_WARM_UP:.0%} of the time; users leave after {_REPLIES} replies, "
        "sessions end after a tenth of the time.",
    )
    worst = 0.0
    for name, limit in (*((p, _FLAT_MEMORY) for p in ("web", "worker", "redis")), ("p50", _FLAT_LATENCY)):
        values = [s[name] for s in fitted]
        mean = median(values)
        grown = statistics.linear_regression(minutes, values).slope * (minutes[-1] - minutes[0])
        allowed = max(mean * limit, _GRAIN if limit is _FLAT_MEMORY else 0)
        worst = max(worst, grown / allowed)
        unit, scale = ("MB", 1e6) if limit is _FLAT_MEMORY else ("ms", 1e-3)
        what = {"p50": "reply, p50"}.get(name, f"memory of {name}")
        verdict = "flat" if grown <= allowed else "GROWS"
        table.rows.append([what, f"{mean / scale:.1f} {unit}", f"{grown / scale:+.1f} {unit}", verdict])
    result = talk.result
    series: dict[str, Any] = {
        "minutes": [s["minute"] for s in samples],
        "megabytes": {part: [s[part] / 1e6 for s in samples] for part in ("web", "worker", "redis")},
        "milliseconds": {name: [s[name] * 1000 for s in samples] for name in ("p50", "p95")},
    }
    row = Row(
        f"soak of {round(samples[-1]['minute'], 1):g} minutes: memory and latency",
        "flat",
        "; ".join(f"{what} {mean}, {grown}" for what, mean, grown, _ in table.rows)
        + f"; {result.answered} replies to {result.acknowledged} messages",
        worst,
        1,
        broken="" if result.kept else f"{result.trouble()}: {result.problems[:1]}",
    )
    return Outcome(rows=[row], tables=[table], series=series)


if __name__ == "__main__":
    sys.exit(main())
