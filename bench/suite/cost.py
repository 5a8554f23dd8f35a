"""What a reply costs compared with bare Celery."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from bench import calibration
from bench.baselines import BareCelery
from bench.load_generator import Result, close_all, connect_all, quantile
from bench.meter import Cost
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_most, median
from bench.suite.common import MS, benchmark, broken, ms
from bench.system import ChatSystem, Options, chat, folder, run
from devtools.harness.deployment import running_redis

#: The pools of bare Celery, and what the table calls them.
_POOLS = {"prefork": "bare Celery, default settings", "threads": "bare Celery, 100 threads"}


@dataclass
class _Bare:
    """What bare Celery with one pool has taken, run by run."""

    #: What `BareCelery.flood` returns.
    floods: list[dict[str, Any]] = field(default_factory=list)
    #: Seconds of a round trip, the median of a run.
    trips: list[float] = field(default_factory=list)

    def rate(self) -> float:
        """Tasks a second."""
        return median([flood["tasks"] / flood["seconds"] for flood in self.floods])

    def cpu(self, *parts: str) -> list[float]:
        """CPU milliseconds a task, of these parts together."""
        return [sum(flood[part] for part in parts) * MS / flood["tasks"] for flood in self.floods]


@dataclass
class _Measured:
    """What the chat and bare Celery have taken, run by run."""

    #: Ten users of the chat at a time.
    ours: list[tuple[Result, Cost]] = field(default_factory=list)
    #: One user.
    alone: list[Result] = field(default_factory=list)
    #: Seconds of a call of the model without the chat.
    bare_calls: list[float] = field(default_factory=list)
    bare: dict[str, _Bare] = field(default_factory=lambda: {name: _Bare() for name in _POOLS})

    def cpu(self, *parts: str) -> list[float]:
        """CPU milliseconds a reply, of these parts together."""
        return [cost.per(len(result.latencies), *parts) for result, cost in self.ours]

    def added(self) -> list[float]:
        """Seconds that the chat adds to the model's time, for one user."""
        return [quantile(r.latencies, 0.5) - call for r, call in zip(self.alone, self.bare_calls, strict=True)]


@benchmark("cost", "CPU of a reply, and the time that the chat adds, compared with bare Celery")
def _cost(options: Options, model: PacedModel) -> Outcome:
    found = _Measured()
    with ExitStack() as stack:
        system = stack.enter_context(chat(model))
        url, logs = stack.enter_context(running_redis()), stack.enter_context(folder())
        celery = {
            "threads": stack.enter_context(BareCelery(url, logs, "threads", "-P", "threads", "-c", "100")),
            "prefork": stack.enter_context(BareCelery(url, logs, "prefork")),
        }
        run(_measure(options, model, system, celery, found))
    parts = ("web", "worker", "redis")
    costs = {"the chat": {part: median(found.cpu(part)) for part in parts}}
    for name, bare in found.bare.items():
        publisher, worker = median(bare.cpu("publisher")), median(bare.cpu("worker"))
        costs[f"bare Celery, {name}"] = {"web": publisher, "worker": worker, "redis": 0.0}
    return Outcome(
        rows=[_cpu_row(options, found), _time_row(options, found)], tables=[_table(found)], series={"cost": costs}
    )


async def _measure(
    options: Options, model: PacedModel, system: ChatSystem, celery: Mapping[str, BareCelery], found: _Measured
) -> None:
    clients = system.clients(10)
    await connect_all(clients, system.url)
    await system.talk(clients, options.seconds(1), 0)
    for _ in range(options.runs):
        # Bare Celery is idle while the chat is measured, and the chat while bare Celery is.
        model.set(Pace())
        found.ours.append(await system.talk(clients, options.seconds(4), 0.2))
        for name, bare in celery.items():
            found.bare[name].floods.append(await asyncio.to_thread(bare.flood, options.count(2000, 50)))
        found.bare_calls.append(await calibration.bare_call(model, options.count(500, 20)))
        result, _ = await system.talk(clients[:1], options.seconds(1.5), 0.1)
        found.alone.append(result)
        for name, bare in celery.items():
            answer = await asyncio.to_thread(bare.trips, options.count(300, 20))
            found.bare[name].trips.append(quantile(answer["times"], 0.5))
    system.check_history(clients, found.ours[-1][0])
    await close_all(clients)


def _ratios(ours: list[float], bare: Mapping[str, list[float]]) -> dict[str, float]:
    """How many times what each pool of bare Celery takes, compared run by run."""
    return {
        name: median([mine / other for mine, other in zip(ours, others, strict=True)]) for name, others in bare.items()
    }


def _cpu_row(options: Options, found: _Measured) -> Row:
    ours = found.cpu("web", "worker")
    bare = {name: each.cpu("publisher", "worker") for name, each in found.bare.items()}
    ratios = _ratios(ours, bare)
    return Row(
        "CPU of web + worker per reply, model at 0 ms, 10 users, against bare Celery per no-op task",
        "at most 1.6 ×",
        f"{max(ratios.values()):.2f} × ({median(ours):.2f} ms; default Celery "
        f"{median(bare['prefork']):.2f} ms: {ratios['prefork']:.2f} ×, with threads "
        f"{median(bare['threads']):.2f} ms: {ratios['threads']:.2f} ×)",
        at_most(max(ratios.values()), 1.6),
        options.runs,
        "judged by the cheaper of the two pools",
        broken=broken(*(result for result, _ in found.ours)),
    )


def _time_row(options: Options, found: _Measured) -> Row:
    added = found.added()
    trips = {name: each.trips for name, each in found.bare.items()}
    slower = max(_ratios(added, trips).values())
    return Row(
        "time added to the model's, one user, p50, against bare Celery's round trip",
        "at most 3.5 ×",
        f"{slower:.2f} × ({ms(median(added))}; default Celery "
        f"{ms(median(trips['prefork']))}, with threads {ms(median(trips['threads']))})",
        at_most(slower, 3.5),
        options.runs,
        "judged by the faster of the two pools; beside Celery's own trip a reply goes to Redis three times and to "
        "the model once: see the table of its path",
        broken=broken(*found.alone),
    )


def _table(found: _Measured) -> Table:
    table = Table(
        "What a reply costs, in ms of CPU (model at 0 ms)",
        ["what", "rate", "publisher or web", "worker", "Redis", "generator", "model server"],
        [],
    )
    for name, title in _POOLS.items():
        bare = found.bare[name]
        cells = [f"{bare.rate():.0f}/s", *(f"{median(bare.cpu(part)):.2f}" for part in ("publisher", "worker"))]
        table.rows.append([f"{title}, a no-op task that publishes", *cells, "–", "–", "–"])
    parts = ("web", "worker", "redis", "load", "model")
    cells = [f"{median([r.rate for r, _ in found.ours]):.0f}/s", *(f"{median(found.cpu(part)):.2f}" for part in parts)]
    table.rows.append(["the chat, 10 users, a reply", *cells])
    return table
