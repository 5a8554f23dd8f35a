"""Many replies at once, token by token: how late the deltas are, and what a token costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.load_generator import Client, Result, Talk, close_all, connect_all, quantile
from bench.meter import Cost
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_most, median
from bench.suite.common import benchmark, broken, ms
from bench.system import ChatSystem, Options, chat, run

#: Seconds from the model's token to the client's delta, p99.
_LIMIT = 0.25
#: Replies at once at which a token's cost, and the worker's memory, are judged.
_COST_AT, _MEMORY_AT = 400, 600
#: Microseconds of web, worker and Redis; bytes.
_MOST_CPU, _MOST_MEMORY = 110, 150e6
_PARTS = ("web", "worker", "redis")


class _Round(NamedTuple):
    """Some streams at once."""

    streams: int
    result: Result
    tokens: int
    #: The model's own lateness, p99, in seconds.
    late: float
    cost: Cost
    #: Bytes of the worker in the middle of the streams.
    memory: int

    @property
    def p99(self) -> float:
        return quantile(self.result.token_delays, 0.99)

    @property
    def within(self) -> bool:
        return self.p99 <= _LIMIT and self.result.kept

    @property
    def cpu(self) -> float:
        """Microseconds of web, worker and Redis a token."""
        return self.cost.per(self.tokens, *_PARTS) * 1000


async def _once(system: ChatSystem, clients: Sequence[Client], seconds: float) -> _Round:
    """Every client asks once, and gets `seconds` of tokens."""
    system.model.set(Pace(0.05, 0.05, int(seconds * 20), stamped=True))
    meter, talk = system.meter(), Talk()
    memory = await system.stream(clients, talk, seconds)
    talk.close()
    for client in clients:
        client.on_done = None
    sent = system.model.sent()
    return _Round(len(clients), talk.result, sent["tokens"], sent["late_p99"], meter.lap(), memory)


@benchmark("streams", "Replies at once at 20 tokens/s each: how late the deltas are, and how many are too many")
def _streams(options: Options, model: PacedModel) -> Outcome:
    rounds: list[_Round] = []
    steps: list[_Round] = []
    with chat(model, max_new_tokens=5000, worker_concurrency=1000) as system:

        async def main() -> None:
            clients = system.clients(options.count(900, 8))
            await connect_all(clients, system.url)
            for _ in range(options.runs):
                rounds.append(await _once(system, clients[: options.count(200)], options.seconds(30)))
            for streams in (200, 300, 400, 500, 600, 750, 900):
                steps.append(await _once(system, clients[: options.count(streams)], options.seconds(8)))
                if not steps[-1].within:
                    break
            await close_all(clients)

        run(main())
    return Outcome(
        rows=_rows(options, rounds, steps),
        tables=[_table(steps)],
        series={
            "streams": [
                [s.streams, quantile(s.result.token_delays, 0.5), s.p99, s.cost.share("worker"), s.cost.share("web")]
                for s in steps
            ]
        },
    )


def _rows(options: Options, rounds: Sequence[_Round], steps: Sequence[_Round]) -> list[Row]:
    p99 = median([r.p99 for r in rounds])
    within = [s.streams for s in steps if s.within]
    beyond = [s.streams for s in steps if not s.within]
    cost = _at(steps, options.count(_COST_AT))
    memory = _at(steps, options.count(_MEMORY_AT))
    return [
        Row(
            "200 replies at once at 20 tokens/s each, for 30 s: from the model's token to the client's delta, p99",
            "at most 250 ms, none lost; and the limit",
            f"{ms(p99)}; it holds at {max(within, default=0)} streams, "
            + (f"and is exceeded at {beyond[0]}" if beyond else "the largest number tried"),
            at_most(p99, _LIMIT),
            options.runs,
            broken=broken(*(r.result for r in rounds)),
        ),
        Row(
            f"CPU of web + worker + Redis a streamed token, {cost.streams} streams at 20 tokens/s",
            f"at most {_MOST_CPU} µs",
            f"{cost.cpu:.0f} µs ({_costs(cost)})",
            at_most(cost.cpu, _MOST_CPU),
            1,
            broken=broken(cost.result),
        ),
        Row(
            f"memory of a worker with {memory.streams} streams",
            f"at most {_MOST_MEMORY / 1e6:.0f} MB",
            f"{memory.memory / 1e6:.0f} MB",
            at_most(memory.memory, _MOST_MEMORY),
            1,
            "" if memory.streams >= _MEMORY_AT * options.scale else "fewer streams: 600 were beyond the limit",
        ),
    ]


def _at(steps: Sequence[_Round], streams: int) -> _Round:
    """The round with so many streams, or that with most."""
    return next((s for s in steps if s.streams == streams), steps[-1])


def _costs(found: _Round) -> str:
    each = (f"{part} {found.cost.per(found.tokens, part) * 1000:.0f}" for part in _PARTS)
    return ", ".join(each)


def _table(steps: Sequence[_Round]) -> Table:
    return Table(
        "Streams at once at 20 tokens/s: from the model's token to the client's delta",
        [
            "streams",
            "p50",
            "p99",
            "max",
            "deltas complete",
            "model's own lateness, p99",
            "web / worker / Redis / load, of a core",
            "CPU a token, web + worker + Redis",
            "memory of the worker",
        ],
        [
            [
                str(s.streams),
                ms(quantile(s.result.token_delays, 0.5)),
                ms(s.p99),
                ms(max(s.result.token_delays, default=0)),
                "yes" if s.result.kept else f"NO: {s.result.trouble()}",
                ms(s.late),
                " / ".join(f"{s.cost.share(part):.0%}" for part in (*_PARTS, "load")),
                f"{s.cpu:.0f} µs",
                f"{s.memory / 1e6:.0f} MB",
            ]
            for s in steps
        ],
        "8 s for each number; the search ends at the first that is above 250 ms. WORKER_CONCURRENCY=1000, "
        "MAX_NEW_TOKENS=5000, else default settings.",
    )
