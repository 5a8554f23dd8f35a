"""Many replies at once, token by token: how late the deltas are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from bench.load_generator import Client, Result, Talk, close_all, connect_all, drain, quantile
from bench.meter import Cost
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_most, median
from bench.suite.common import benchmark, broken, ms
from bench.system import Options, chat, run


@benchmark("streams", "Replies at once at 20 tokens/s each: how late the deltas are, and how many are too many")
def _streams(options: Options, model: PacedModel) -> Outcome:
    rounds: list[tuple[Result, float]] = []
    steps: list[tuple[int, Result, dict[str, Any], Cost]] = []
    limit = 0.25
    with chat(model, max_new_tokens=5000, worker_concurrency=1000) as system:

        async def once(clients: Sequence[Client], seconds: float) -> tuple[Result, dict[str, Any], Cost]:
            """Every client asks once, and gets `seconds` of tokens."""
            model.set(Pace(0.05, 0.05, int(seconds * 20), stamped=True))
            meter, talk = system.meter(), Talk()
            talk.open()
            for client in clients:
                client.on_done = lambda _: None
                client.say(talk)
            await asyncio.sleep(seconds)
            await drain(talk)
            talk.close()
            for client in clients:
                client.on_done = None
            return talk.result, model.sent(), meter.lap()

        async def main() -> None:
            clients = system.clients(options.count(900, 8))
            await connect_all(clients, system.url)
            for _ in range(options.runs):
                result, sent, _ = await once(clients[: options.count(200)], options.seconds(30))
                rounds.append((result, sent["late_p99"]))
            for streams in (200, 300, 400, 500, 600, 750, 900):
                result, sent, cost = await once(clients[: options.count(streams)], options.seconds(8))
                steps.append((streams, result, sent, cost))
                if quantile(result.token_delays, 0.99) > limit or not result.kept:
                    break
            await close_all(clients)

        run(main())
    p99 = median([quantile(r.token_delays, 0.99) for r, _ in rounds])
    within = [n for n, r, *_ in steps if quantile(r.token_delays, 0.99) <= limit and r.kept]
    breaks = [n for n, *_ in steps if n not in within]
    table = Table(
        "Streams at once at 20 tokens/s: from the model's token to the client's delta",
        [
            "streams",
            "p50",
            "p99",
            "max",
            "deltas complete",
            "model's own lateness, p99",
            "web / worker / Redis / load, of a core",
        ],
        [
            [
                str(n),
                ms(quantile(r.token_delays, 0.5)),
                ms(quantile(r.token_delays, 0.99)),
                ms(max(r.token_delays, default=0)),
                "yes" if r.kept else f"NO: {r.trouble()}",
                ms(sent["late_p99"]),
                " / ".join(f"{cost.share(part):.0%}" for part in ("web", "worker", "redis", "load")),
            ]
            for n, r, sent, cost in steps
        ],
        "8 s for each number; the search ends at the first that is above 250 ms. WORKER_CONCURRENCY=1000, "
        "MAX_NEW_TOKENS=5000, else default settings.",
    )
    return Outcome(
        rows=[
            Row(
                "200 replies at once at 20 tokens/s each, for 30 s: from the model's token to the client's delta, p99",
                "at most 250 ms, none lost; and the limit",
                f"{ms(p99)}; it holds at {max(within, default=0)} streams, "
                + (f"and is exceeded at {breaks[0]}" if breaks else "the largest number tried"),
                at_most(p99, limit),
                options.runs,
                broken=broken(*(r for r, _ in rounds)),
            )
        ],
        tables=[table],
        series={
            "streams": [
                [
                    n,
                    quantile(r.token_delays, 0.5),
                    quantile(r.token_delays, 0.99),
                    cost.share("worker"),
                    cost.share("web"),
                ]
                for n, r, _, cost in steps
            ]
        },
    )
