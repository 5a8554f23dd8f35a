"""What is stored: long histories, many sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bench.load import Client, Talk, close_all, connect_all, settle
from bench.model import Model, Pace
from bench.results import Outcome, Row, at_most, median
from bench.stage import Chat, Options, chat, run
from bench.suite.common import benchmark, broken, ratio


@benchmark("history", "A history of 10 000 messages against 10")
def _history(options: Options, model: Model) -> Outcome:
    def prepare(stage: Chat) -> tuple[list[Client], list[Client]]:
        small, large = stage.clients(10), stage.clients(10)
        for client in small:
            stage.give_history(client, 10)
        for client in large:
            stage.give_history(client, 10_000)
        return small, large

    return _against(
        options, model, "CPU of web + worker + Redis per reply, history of 10 000 messages against 10", prepare
    )


@benchmark("sessions", "5 000 live sessions against 10")
def _sessions(options: Options, model: Model) -> Outcome:
    live = options.count(5000, 40)

    def prepare(stage: Chat) -> tuple[list[Client], list[Client]]:
        return stage.clients(10), stage.clients(live)

    return _against(options, model, f"CPU of web + worker + Redis per reply, {live} live sessions against 10", prepare)


def _against(
    options: Options,
    model: Model,
    what: str,
    prepare: Callable[[Chat], tuple[list[Client], list[Client]]],
) -> Outcome:
    """Ten messages under way at a time, in turns among the first clients, then among the second."""
    costs: tuple[list[float], list[float]] = ([], [])
    rates: tuple[list[float], list[float]] = ([], [])
    results = []
    parts = ("web", "worker", "redis")
    with chat(model) as stage:

        async def measure(clients: Sequence[Client], costs: list[float], rates: list[float]) -> None:
            meter, talk = stage.meter(), Talk()
            waiting = list(clients[10:])

            def next_one(done: Client) -> None:
                if talk.sending:
                    waiting.append(done)
                    waiting.pop(0).say(talk)

            for client in clients:
                client.on_done = next_one
            for client in clients[:10]:
                client.say(talk)
            await asyncio.sleep(0.3)
            meter.lap()
            talk.open()
            await asyncio.sleep(options.seconds(4))
            talk.close()
            cost = meter.lap()
            await settle(talk)
            costs.append(cost.per(talk.so_far, *parts))
            rates.append(talk.result.rate)
            results.append(talk.result)

        async def main() -> None:
            model.set(Pace())
            first, second = await asyncio.to_thread(prepare, stage)
            # Ten sessions live beside nothing else: the many connect after the ten were measured, and leave again.
            await connect_all(first, stage.url)
            await measure(first, [], [])
            for _ in range(options.runs):
                await measure(first, costs[0], rates[0])
                await connect_all(second, stage.url)
                await stage.calm()
                await measure(second, costs[1], rates[1])
                await close_all(second)
                await stage.calm()
            await close_all(first)

        run(main())
    growth = ratio(median(costs[1]), median(costs[0]))
    return Outcome(
        rows=[
            Row(
                what,
                "at most 1.2 ×",
                f"{growth:.2f} × ({median(costs[1]):.2f} ms against {median(costs[0]):.2f} ms; "
                f"{median(rates[1]):.0f} against {median(rates[0]):.0f} replies/s)",
                at_most(growth, 1.2),
                options.runs,
                broken=broken(*results),
            )
        ]
    )
