"""What a reply costs compared with bare Celery, and whether generator or model server is the bottleneck."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import Any

from bench import calibration
from bench.baselines import BareCelery
from bench.load_generator import Client, Result, close_all, connect_all, converse, quantile
from bench.meter import Cost, Meter
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_most, median
from bench.suite.common import MS, benchmark, broken, ms
from bench.system import Options, chat, folder, run
from devtools.harness.deployment import running_redis


@benchmark("generator", "The load generator and the model server alone, under more load than in use")
def _generator(options: Options, model: PacedModel) -> Outcome:
    outcome = Outcome()
    table = Table(
        "Not the bottleneck: generator and model server alone",
        ["what", "rate", "CPU of one core", "CPU each", "p50", "p99"],
        [],
        "The generator talks to a server that answers each message with ack, delta and reply; the model server is "
        "asked directly. The chat's own figures say how much of a core both take while they serve it.",
    )

    async def echo(url: str) -> None:
        clients = [Client(n, "x") for n in range(50)]
        await connect_all(clients, url)
        cpu = time.process_time()
        result = await converse(clients, options.seconds(3), warm_up=0)
        cpu = time.process_time() - cpu
        table.rows.append(
            [
                "generator, 50 clients",
                f"{result.rate:.0f} replies/s",
                f"{cpu / result.seconds:.0%}",
                f"{cpu / max(result.answered, 1) * 1e6:.0f} µs a reply",
                ms(quantile(result.latencies, 0.5)),
                ms(quantile(result.latencies, 0.99)),
            ]
        )
        outcome.series["generator_rate"] = result.rate
        await close_all(clients)

    with calibration.EchoChat() as server:
        run(echo(server.url))
    for what, clients, pace in (
        ("model server, 200 streams at 20 tokens/s", 200, Pace(0.05, 0.05, 100 if options.scale == 1 else 10)),
        ("model server, 400 replies at once, 2 s", 400, Pace(options.seconds(2.0))),
        ("model server, at 0 ms", 10, Pace()),
    ):
        meter = Meter({"model": [model.pid]})
        events, times = run(calibration.ask_model(model, pace, clients, options.seconds(3)))
        cost = meter.lap()
        table.rows.append(
            [
                what,
                f"{events / cost.seconds:.0f} events/s",
                f"{cost.share('model'):.0%}",
                f"{cost.cpu['model'] / events * 1e6:.0f} µs an event",
                ms(quantile(times, 0.5)),
                f"{ms(quantile(times, 0.99))} (ideal {ms(pace.duration)})",
            ]
        )
    outcome.tables.append(table)
    return outcome


@benchmark("cost", "CPU of a reply, and the time that the chat adds, compared with bare Celery")
def _cost(options: Options, model: PacedModel) -> Outcome:
    ours: list[tuple[Result, Cost]] = []
    alone: list[Result] = []
    floods: dict[str, list[dict[str, Any]]] = {"threads": [], "prefork": []}
    trips: dict[str, list[float]] = {"threads": [], "prefork": []}
    bare_calls: list[float] = []

    with ExitStack() as stack:
        system = stack.enter_context(chat(model))
        url, logs = stack.enter_context(running_redis()), stack.enter_context(folder())
        bare = {
            "threads": stack.enter_context(BareCelery(url, logs, "threads", "-P", "threads", "-c", "100")),
            "prefork": stack.enter_context(BareCelery(url, logs, "prefork")),
        }

        async def main() -> None:
            clients = system.clients(10)
            await connect_all(clients, system.url)
            await system.talk(clients, options.seconds(1), 0)
            for _ in range(options.runs):
                # Bare Celery is idle while the chat is measured, and the chat while bare Celery is.
                model.set(Pace())
                ours.append(await system.talk(clients, options.seconds(4), 0.2))
                for name, celery in bare.items():
                    floods[name].append(await asyncio.to_thread(celery.flood, options.count(2000, 50)))
                bare_calls.append(await calibration.bare_call(model, options.count(500, 20)))
                result, _ = await system.talk(clients[:1], options.seconds(1.5), 0.1)
                alone.append(result)
                for name, celery in bare.items():
                    answer = await asyncio.to_thread(celery.trips, options.count(300, 20))
                    trips[name].append(quantile(answer["times"], 0.5))
            system.check_history(clients, ours[-1][0])
            await close_all(clients)

        run(main())

    each = [cost.per(len(result.latencies), "web", "worker") for result, cost in ours]
    per_task = {
        name: [(f["publisher"] + f["worker"]) * MS / f["tasks"] for f in found] for name, found in floods.items()
    }
    ratios = [mine / theirs for mine, theirs in zip(each, per_task["prefork"], strict=True)]
    against_threads = [mine / theirs for mine, theirs in zip(each, per_task["threads"], strict=True)]
    added = [quantile(r.latencies, 0.5) - call for r, call in zip(alone, bare_calls, strict=True)]
    slower = [mine / theirs for mine, theirs in zip(added, trips["prefork"], strict=True)]
    slower_threads = [mine / theirs for mine, theirs in zip(added, trips["threads"], strict=True)]
    outcome = Outcome()
    outcome.rows.append(
        Row(
            "CPU of web + worker per reply, model at 0 ms, 10 users, against bare Celery per no-op task",
            "at most 1.6 ×",
            f"{max(median(ratios), median(against_threads)):.2f} × ({median(each):.2f} ms; default Celery "
            f"{median(per_task['prefork']):.2f} ms: {median(ratios):.2f} ×, with threads "
            f"{median(per_task['threads']):.2f} ms: {median(against_threads):.2f} ×)",
            at_most(max(median(ratios), median(against_threads)), 1.6),
            options.runs,
            "judged by the cheaper of the two pools",
            broken=broken(*(r for r, _ in ours)),
        )
    )
    outcome.rows.append(
        Row(
            "time added to the model's, one user, p50, against bare Celery's round trip",
            "at most 3.5 ×",
            f"{max(median(slower), median(slower_threads)):.2f} × ({ms(median(added))}; default Celery "
            f"{ms(median(trips['prefork']))}, with threads {ms(median(trips['threads']))})",
            at_most(max(median(slower), median(slower_threads)), 3.5),
            options.runs,
            "judged by the faster of the two pools; beside Celery's own trip a reply goes to Redis three times and to "
            "the model once: see the table of its path",
            broken=broken(*alone),
        )
    )
    table = Table(
        "What a reply costs, in ms of CPU (model at 0 ms)",
        ["what", "rate", "publisher or web", "worker", "Redis", "generator", "model server"],
        [],
    )
    for name, title in (("prefork", "bare Celery, default settings"), ("threads", "bare Celery, 100 threads")):
        table.rows.append(
            [
                f"{title}, a no-op task that publishes",
                f"{median([f['tasks'] / f['seconds'] for f in floods[name]]):.0f}/s",
                f"{median([f['publisher'] * MS / f['tasks'] for f in floods[name]]):.2f}",
                f"{median([f['worker'] * MS / f['tasks'] for f in floods[name]]):.2f}",
                "–",
                "–",
                "–",
            ]
        )
    parts = ("web", "worker", "redis", "load", "model")
    table.rows.append(
        [
            "the chat, 10 users, a reply",
            f"{median([r.rate for r, _ in ours]):.0f}/s",
            *(f"{median([c.per(len(r.latencies), part) for r, c in ours]):.2f}" for part in parts),
        ]
    )
    outcome.tables.append(table)
    outcome.series["cost"] = {
        "the chat": {p: median([c.per(len(r.latencies), p) for r, c in ours]) for p in ("web", "worker", "redis")},
        **{
            f"bare Celery, {name}": {
                "web": median([f["publisher"] * MS / f["tasks"] for f in found]),
                "worker": median([f["worker"] * MS / f["tasks"] for f in found]),
                "redis": 0.0,
            }
            for name, found in floods.items()
        },
    }
    return outcome
