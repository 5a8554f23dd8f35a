"""Several workers, and the kinds of a worker's pool."""

from __future__ import annotations

import asyncio

from bench.load_generator import Result, close_all, connect_all, quantile
from bench.meter import Cost
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_least, median
from bench.suite.common import benchmark, broken, ms, ratio
from bench.system import STREAMED, ChatSystem, Options, chat, run


@benchmark("workers", "Two workers against one, model-bound")
def _workers(options: Options, model: PacedModel) -> Outcome:
    one, two, results = [], [], []
    with chat(model, workers=2, worker_concurrency=10) as system:
        second = system.deployment.workers[1]

        async def main() -> None:
            clients = system.clients(60)
            await connect_all(clients, system.url)
            model.set(Pace(first=0.5))
            for _ in range(options.runs):
                result, _ = await system.talk(clients, options.seconds(5), options.seconds(2))
                two.append(result.rate)
                results.append(result)
                await asyncio.to_thread(second.stop)
                result, _ = await system.talk(clients, options.seconds(5), options.seconds(2))
                one.append(result.rate)
                results.append(result)
                second.start()
                await asyncio.to_thread(system.deployment.wait_until_worker, 1)
            system.check_history(clients, result)
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
def _pools(options: Options, model: PacedModel) -> Outcome:
    table = Table(
        "The worker's pools compared",
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
        "One run each.",
    )
    for name, arguments in _POOLS.items():
        with chat(model, worker_args=arguments) as system:

            async def main(system: ChatSystem) -> tuple[Result, Cost, Result]:
                clients = system.clients(250)
                await connect_all(clients, system.url)
                model.set(Pace())
                quick, cost = await system.talk(clients[: options.count(10)], options.seconds(3), options.seconds(1))
                model.set(STREAMED)
                slow, _ = await system.talk(clients[: options.count(250)], options.seconds(4), options.seconds(2))
                await close_all(clients)
                return quick, cost, slow

            quick, cost, slow = run(main(system))
            log = system.deployment.workers[0].log
            table.rows.append(
                [
                    name,
                    f"{quick.rate:.0f} replies/s",
                    f"{cost.per(len(quick.latencies), 'worker'):.2f} ms",
                    f"{slow.rate:.0f} replies/s",
                    ms(quantile(slow.latencies, 0.99)),
                    f"{system.memory()['worker'] / 1e6:.0f} MB",
                    "kept" if quick.kept and slow.kept else f"NOT kept: {broken(quick, slow)[:120]}",
                    str(log.count(" ERROR ") + log.count(" CRITICAL ")),
                ]
            )
    return Outcome(tables=[table])
