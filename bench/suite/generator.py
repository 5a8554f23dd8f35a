"""Whether generator or model server is the bottleneck: each alone."""

from __future__ import annotations

import time

from bench import calibration
from bench.load_generator import Client, Result, close_all, connect_all, converse, quantile
from bench.meter import Meter
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Table
from bench.suite.common import benchmark, ms
from bench.system import Options, run


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

    with calibration.EchoChat() as server:
        result, cpu = run(_echo(server.url, options.seconds(3)))
    outcome.series["generator_rate"] = result.rate
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


async def _echo(url: str, seconds: float) -> tuple[Result, float]:
    """What 50 clients measure at the echo server, and the CPU seconds that they take."""
    clients = [Client(n, "x") for n in range(50)]
    await connect_all(clients, url)
    cpu = time.process_time()
    result = await converse(clients, seconds, warm_up=0)
    cpu = time.process_time() - cpu
    await close_all(clients)
    return result, cpu
