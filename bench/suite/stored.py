"""The cost of a reply with long histories and many sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bench.load_generator import Client, Talk, close_all, connect_all, drain
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, at_most, median
from bench.suite.common import benchmark, broken, ratio
from bench.system import ChatSystem, Options, chat, run


@benchmark("history", "A history of 10 000 messages against 10")
def _history(options: Options, model: PacedModel) -> Outcome:
    def prepare(system: ChatSystem) -> tuple[list[Client], list[Client]]:
        small, large = system.clients(10), system.clients(10)
        for client in small:
            system.give_history(client, 10)
        for client in large:
            system.give_history(client, 10_000)
        return small, large

    return _against(
        options, model, "CPU of web + worker + Redis per reply, history of 10 000 messages against 10", prepare
    )


@benchmark("sessions", "5 000 live sessions against 10")
def _sessions(options: Options, model: PacedModel) -> Outcome:
    live = options.count(5000, 40)

    def prepare(system: ChatSystem) -> tuple[list[Client], list[Client]]:
        return system.clients(10), system.clients(live)

    return _against(options, model, f"CPU of web + worker + Redis per reply, {live} live sessions against 10", prepare)


def _against(
    options: Options,
    model: PacedModel,
    what: str,
    prepare: Callable[[ChatSystem], tuple[list[Client], list[Client]]],
) -> Outcome:
    """Ten messages at a time, sent by the first clients in rotation, then by the second ones."""
    costs: tuple[list[float], list[float]] = ([], [])
    rates: tuple[list[float], list[float]] = ([], [])
    results = []
    parts = ("web", "worker", "redis")
    with chat(model) as system:

        async def measure(clients: Sequence[Client], costs: list[float], rates: list[float]) -> None:
            meter, talk = system.meter(), Talk()
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
            await drain(talk)
            costs.append(cost.per(talk.so_far, *parts))
            rates.append(talk.result.rate)
            results.append(talk.result)

        async def main() -> None:
            model.set(Pace())
            first, second = await asyncio.to_thread(prepare, system)
            # The ten sessions are measured alone: the many connect after that, and disconnect again.
            await connect_all(first, system.url)
            await measure(first, [], [])
            for _ in range(options.runs):
                await measure(first, costs[0], rates[0])
                await connect_all(second, system.url)
                await system.calm()
                await measure(second, costs[1], rates[1])
                await close_all(second)
                await system.calm()
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
