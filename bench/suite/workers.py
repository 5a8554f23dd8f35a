"""The worker: more of them, and the kinds of its pool."""

from __future__ import annotations

import asyncio

from bench.load import Result, close_all, connect_all, quantile
from bench.meter import Cost
from bench.model import Model, Pace
from bench.results import Outcome, Row, Table, at_least, median
from bench.stage import STREAMED, Chat, Options, chat, run
from bench.suite.common import benchmark, broken, ms, ratio


@benchmark("workers", "Two workers against one, model-bound")
def _workers(options: Options, model: Model) -> Outcome:
    one, two, results = [], [], []
    with chat(model, workers=2, worker_concurrency=10) as stage:
        second = stage.deployment.workers[1]

        async def main() -> None:
            clients = stage.clients(60)
            await connect_all(clients, stage.url)
            model.set(Pace(first=0.5))
            for _ in range(options.runs):
                result, _ = await stage.talk(clients, options.seconds(5), options.seconds(2))
                two.append(result.rate)
                results.append(result)
                await asyncio.to_thread(second.stop)
                result, _ = await stage.talk(clients, options.seconds(5), options.seconds(2))
                one.append(result.rate)
                results.append(result)
                second.start()
                await asyncio.to_thread(stage.deployment.wait_until_worker, 1)
            stage.check_history(clients, result)
            await close_all(clients)

        run(main())
    gain = median([ratio(b, a) for a, b in zip(one, two, strict=True)])
    return Outcome(
        rows=[
            Row(
                "two workers against one, model-bound (10 replies at a time each, model at 0.5 s)",
                "at least 1.9 ×",
                f"{gain:.2f} × ({median(two):.1f} against {median(one):.1f} replies/s)",
                at_least(gain, 1.9),
                options.runs,
                broken=broken(*results),
            )
        ]
    )


_POOLS = {
    "threads, 100": ("-P", "threads", "-c", "100"),
    "threads, 500": ("-P", "threads", "-c", "500"),
    "prefork, 8": ("-P", "prefork", "-c", "8"),
    "gevent, 500": ("-P", "gevent", "-c", "500"),
}


@benchmark("pools", "The worker's pool: threads, prefork, gevent")
def _pools(options: Options, model: Model) -> Outcome:
    table = Table(
        "The worker's pool, side by side",
        [
            "pool",
            "10 users, model at 0 ms",
            "CPU of the worker a reply",
            "250 users, model at 0.5 s in 25 tokens",
            "p99",
            "worker's memory",
            "promise",
            "errors in its log",
        ],
        [],
        "One round each.",
    )
    for name, arguments in _POOLS.items():
        with chat(model, worker_args=arguments) as stage:

            async def main(stage: Chat) -> tuple[Result, Cost, Result]:
                clients = stage.clients(250)
                await connect_all(clients, stage.url)
                model.set(Pace())
                quick, cost = await stage.talk(clients[: options.count(10)], options.seconds(3), options.seconds(1))
                model.set(STREAMED)
                slow, _ = await stage.talk(clients[: options.count(250)], options.seconds(4), options.seconds(2))
                await close_all(clients)
                return quick, cost, slow

            quick, cost, slow = run(main(stage))
            log = stage.deployment.workers[0].log
            table.rows.append(
                [
                    name,
                    f"{quick.rate:.0f} replies/s",
                    f"{cost.per(len(quick.latencies), 'worker'):.2f} ms",
                    f"{slow.rate:.0f} replies/s",
                    ms(quantile(slow.latencies, 0.99)),
                    f"{stage.memory()['worker'] / 1e6:.0f} MB",
                    "kept" if quick.kept and slow.kept else f"NOT kept: {broken(quick, slow)[:120]}",
                    str(log.count(" ERROR ") + log.count(" CRITICAL ")),
                ]
            )
    return Outcome(tables=[table])
