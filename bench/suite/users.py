"""Many users at once, with a slow model."""

from __future__ import annotations

from typing import Any

from bench.load_generator import Result, close_all, connect_all, quantile
from bench.meter import Cost
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, at_least, at_most, median
from bench.suite.common import benchmark, broken, cpu_each, ms
from bench.system import STREAMED, Options, chat, run


@benchmark("users-100", "100 users, model at 1 s")
def _users_100(options: Options, model: PacedModel) -> Outcome:
    results, costs = _users(options, model, 100, Pace(first=1.0), 8)
    rate, p99 = median([r.rate for r in results]), median([quantile(r.latencies, 0.99) for r in results])
    return Outcome(
        rows=[
            Row(
                "100 users, model at 1 s",
                "at least 97 of 100 replies/s, p99 at most 1.15 s, none lost",
                f"{rate:.1f} replies/s, p50 {median([quantile(r.latencies, 0.5) for r in results]):.2f} s, "
                f"p99 {p99:.2f} s; CPU a reply (web / worker / Redis) "
                f"{cpu_each(costs[0], len(results[0].latencies), 'web', 'worker', 'redis')} ms",
                max(at_least(rate, 97), at_most(p99, 1.15)),
                len(results),
                broken=broken(*results),
            )
        ]
    )


@benchmark("users-400", "400 users, model at 2 s, one worker process")
def _users_400(options: Options, model: PacedModel) -> Outcome:
    results, _ = _users(options, model, 400, Pace(first=2.0), 8, warm_up=5)
    rate = median([r.rate for r in results])
    return Outcome(
        rows=[
            Row(
                "400 users, model at 2 s, one worker process",
                "at least 190 of 200 replies/s, none lost",
                f"{rate:.0f} replies/s, p50 {median([quantile(r.latencies, 0.5) for r in results]):.2f} s, "
                f"p99 {median([quantile(r.latencies, 0.99) for r in results]):.2f} s",
                at_least(rate, 190),
                len(results),
                broken=broken(*results),
            )
        ]
    )


def _users(
    options: Options, model: PacedModel, users: int, pace: Pace, seconds: float, warm_up: float = 2.5, **settings: Any
) -> tuple[list[Result], list[Cost]]:
    """The same users talk several times; between two periods all messages are answered."""
    results, costs = [], []
    with chat(model, **settings) as system:

        async def main() -> None:
            clients = system.clients(options.count(users))
            await connect_all(clients, system.url)
            model.set(pace)
            for _ in range(options.runs):
                result, cost = await system.talk(
                    clients, options.seconds(seconds), options.seconds(warm_up), spread=options.seconds(pace.first)
                )
                results.append(result)
                costs.append(cost)
            system.check_history(clients, results[-1])
            await close_all(clients)

        run(main())
    return results, costs


@benchmark("streamed", "50 and 200 users, model at 0.5 s in 25 tokens, streamed")
def _streamed(options: Options, model: PacedModel) -> Outcome:
    found: dict[int, list[tuple[Result, Cost]]] = {50: [], 200: []}
    with chat(model) as system:

        async def main() -> None:
            clients = system.clients(200)
            await connect_all(clients, system.url)
            model.set(STREAMED)
            for _ in range(options.runs):
                for users, kept in found.items():
                    some = clients[: options.count(users)]
                    kept.append(await system.talk(some, options.seconds(6), options.seconds(2)))
            system.check_history(clients, found[200][-1][0])
            await close_all(clients)

        run(main())
    fifty, many = [r for r, _ in found[50]], [r for r, _ in found[200]]
    first = median([quantile(r.first, 0.5) for r in fifty])
    rate = median([r.rate for r in many])
    shares = {part: median([c.share(part) for _, c in found[200]]) for part in ("web", "worker", "redis", "load")}
    return Outcome(
        rows=[
            Row(
                "50 users, model at 0.5 s in 25 tokens, streamed: first delta, p50, after the message was sent",
                "at most 25 ms",
                f"{ms(first)}, 20 ms of it the model's; p99 {ms(median([quantile(r.first, 0.99) for r in fifty]))}; "
                f"{median([r.rate for r in fifty]):.0f} replies/s",
                at_most(first, 0.025),
                options.runs,
                broken=broken(*fifty),
            ),
            Row(
                "200 users, the same model, streamed",
                "at least 150 replies/s, none lost",
                f"{rate:.0f} replies/s, p50 {ms(median([quantile(r.latencies, 0.5) for r in many]))}, "
                f"p99 {ms(median([quantile(r.latencies, 0.99) for r in many]))}",
                at_least(rate, 150),
                options.runs,
                "of one core: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()),
                broken=broken(*many),
            ),
        ]
    )
