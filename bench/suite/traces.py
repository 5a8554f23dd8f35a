"""What traces cost: the CPU of a reply with all replies traced, with the default sampler, and with none."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import mean

from bench.load_generator import Result, close_all, connect_all
from bench.meter import Cost
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_most, median
from bench.suite.common import benchmark, broken, ratio
from bench.system import Options, chat, run
from devtools.harness.collector import Collector

_USERS = 10
_OFF, _SAMPLED, _ALL = "off", "on, default sampler", "on, all replies"
#: Spans that every traced reply has.
_SPANS = 6
_PARTS = ("web", "worker", "redis")


class _Counting(Collector):
    """Counts the spans at the end: to decode them meanwhile would take the load generator's time."""

    def __init__(self) -> None:
        super().__init__()
        self._requests: list[bytes] = []

    def take(self, body: bytes) -> None:
        self._requests.append(body)

    def count(self) -> int:
        while self._requests:
            super().take(self._requests.pop())
        return len(self.spans)


@benchmark("traces", "Traces: the CPU of a reply with OpenTelemetry on, against off")
def _traces(options: Options, model: PacedModel) -> Outcome:
    found: dict[str, list[tuple[Result, Cost]]] = {_OFF: [], _SAMPLED: [], _ALL: []}
    model.set(Pace())
    with ExitStack() as stack:
        sampled, everything = (stack.enter_context(_Counting()) for _ in range(2))
        systems = {
            _OFF: stack.enter_context(chat(model)),
            _SAMPLED: stack.enter_context(chat(model, otel_exporter_otlp_endpoint=sampled.url)),
            _ALL: stack.enter_context(
                chat(model, otel_exporter_otlp_endpoint=everything.url, otel_traces_sampler="parentbased_always_on")
            ),
        }

        async def main() -> None:
            clients = {name: system.clients(_USERS) for name, system in systems.items()}
            for name, system in systems.items():
                await connect_all(clients[name], system.url)
                await system.talk(clients[name], options.seconds(1), 0)
            # A run is longer than spans wait for a request, 5 s, so that it pays for as many as it makes.
            for _ in range(2 * options.runs):
                for name, system in systems.items():
                    found[name].append(await system.talk(clients[name], options.seconds(12), options.seconds(1)))
            for each in clients.values():
                await close_all(each)

        run(main())
        spans, replies = everything.count(), sum(result.answered for result, _ in found[_ALL])
    each = {name: [cost.per(len(result.latencies), *_PARTS) for result, cost in runs] for name, runs in found.items()}
    more = {
        name: median([ratio(on, off) for on, off in zip(values, each[_OFF], strict=True)])
        for name, values in each.items()
    }
    row = Row(
        "CPU of web, worker and Redis a reply, model at 0 ms, with all replies traced, against none",
        "at most 1.05 ×",
        f"{more[_ALL]:.3f} × ({median(each[_ALL]):.2f} against {median(each[_OFF]):.2f} ms); with the default sampler "
        f"{more[_SAMPLED]:.3f} ×",
        at_most(more[_ALL], 1.05),
        2 * options.runs,
        broken=broken(*(result for runs in found.values() for result, _ in runs))
        or ("" if spans > _SPANS * replies * 0.8 else f"only {spans} spans of {replies} replies arrived"),
    )
    return Outcome(rows=[row], tables=[_table(found)])


def _table(found: dict[str, list[tuple[Result, Cost]]]) -> Table:
    rows = [
        [
            name,
            *(f"{median([cost.per(len(result.latencies), part) for result, cost in runs]):.3f} ms" for part in _PARTS),
            f"{mean(result.rate for result, _ in runs):.0f}/s",
        ]
        for name, runs in found.items()
    ]
    return Table("Traces: CPU of a reply", ["traces", *_PARTS, "replies"], rows)
