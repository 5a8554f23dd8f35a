"""What several Redis, and a Redis Cluster, cost compared with one Redis: without load, and for each reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import redis

from bench.load_generator import Client, Result, close_all, connect_all
from bench.meter import Cost
from bench.paced_model import Pace, PacedModel
from bench.results import Outcome, Row, Table, at_most, median
from bench.suite.common import benchmark, broken, ratio
from bench.system import ChatSystem, Options, chat, run
from devtools.harness.cluster_deployment import ClusterDeployment
from devtools.harness.deployment import Deployment
from devtools.harness.several_redis_deployment import SeveralRedisDeployment

_KINDS: dict[str, type[Deployment]] = {
    "one Redis": Deployment,
    "three Redis": SeveralRedisDeployment,
    "a cluster of three": ClusterDeployment,
}
_PARTS = ("redis", "web", "worker")
#: Users of the two loads, and the model's seconds.
_LOADS = {"200 users, model at 20 ms": (200, 0.02), "100 users, model at 1 s": (100, 1.0)}
#: Microseconds of a reply from which a command is shown.
_SHOWN = 5.0
#: What Redis counts, besides the calls of each command.
_COUNTED = ("eventloop_cycles", "total_reads_processed", "total_writes_processed")


@dataclass
class _Found:
    """One deployment's figures, of each run."""

    idle: list[Cost] = field(default_factory=list)
    talks: dict[str, list[tuple[Result, Cost]]] = field(default_factory=lambda: {load: [] for load in _LOADS})
    #: Calls, and microseconds, of each command under the first load.
    calls: Counter[str] = field(default_factory=Counter)
    took: Counter[str] = field(default_factory=Counter)
    replies: int = 0

    def idle_share(self, part: str) -> float:
        """Milliseconds of CPU a second without load."""
        return median([cost.share(part) * 1000 for cost in self.idle])

    def each(self, load: str, part: str) -> float:
        """Milliseconds of CPU of a reply."""
        return median([cost.per(len(result.latencies), part) for result, cost in self.talks[load]])

    def rate(self, load: str) -> float:
        return median([result.rate for result, _ in self.talks[load]])


@benchmark("partitions", "Several Redis and a Redis Cluster against one Redis: CPU without load, and of a reply")
def _partitions(options: Options, model: PacedModel) -> Outcome:
    found = {name: _Found() for name in _KINDS}
    with ExitStack() as stack:
        replicas = {"a cluster of three": {"replicas": 0}}
        systems = {
            name: stack.enter_context(chat(model, kind, **replicas.get(name, {}))) for name, kind in _KINDS.items()
        }

        async def main() -> None:
            clients = {name: system.clients(200) for name, system in systems.items()}
            for name, system in systems.items():
                await connect_all(clients[name], system.url)
                await system.talk(clients[name], options.seconds(1), 0)
            for _ in range(options.runs):
                await _measure_idle(options, systems, found)
                for name, system in systems.items():
                    await _measure(options, model, system, clients[name], found[name])
            for name, system in systems.items():
                system.check_history(clients[name], found[name].talks[next(iter(_LOADS))][-1][0])
                await close_all(clients[name])

        run(main())
    return Outcome(rows=_rows(found, options), tables=[_costs(found), _commands(found)])


async def _measure_idle(options: Options, systems: dict[str, ChatSystem], found: dict[str, _Found]) -> None:
    """Measures all without load at once, for long: the kernel counts in hundredths of a second."""
    for system in systems.values():
        await system.calm()
    meters = {name: system.meter() for name, system in systems.items()}
    await asyncio.sleep(options.seconds(12))
    for name, meter in meters.items():
        found[name].idle.append(meter.lap())


async def _measure(
    options: Options, model: PacedModel, system: ChatSystem, clients: Sequence[Client], found: _Found
) -> None:
    for number, (load, (users, seconds)) in enumerate(_LOADS.items()):
        model.set(Pace(seconds))
        before = _statistics(system)
        result, cost = await system.talk(clients[:users], options.seconds(4), options.seconds(1))
        found.talks[load].append((result, cost))
        if not number:
            after = _statistics(system)
            found.calls += after[0] - before[0]
            found.took += after[1] - before[1]
            found.replies += result.answered


def _statistics(system: ChatSystem) -> tuple[Counter[str], Counter[str]]:
    """Of all Redis together: how often each command was called, and its microseconds."""
    calls: Counter[str] = Counter()
    took: Counter[str] = Counter()
    for port in system.deployment.redis_servers:
        with redis.Redis(port=port, decode_responses=True) as client:
            for name, each in client.info("commandstats").items():
                command = name.removeprefix("cmdstat_")
                calls[command] += each["calls"]
                took[command] += each["usec"]
            statistics = client.info("stats")
            for name in _COUNTED:
                calls[name] += statistics.get(name, 0)
    return calls, took


def _rows(found: dict[str, _Found], options: Options) -> list[Row]:
    one, three, cluster = (found[name] for name in _KINDS)
    load = next(iter(_LOADS))
    against = ratio(three.each(load, "redis"), one.each(load, "redis"))
    idle = {name: sum(each.idle_share(part) for part in _PARTS) for name, each in found.items()}
    most = max(ratio(idle[name], idle["one Redis"]) for name in idle)
    return [
        Row(
            f"CPU of all Redis a reply, three Redis against one ({load})",
            "at most 1.1 ×",
            f"{against:.2f} × ({three.each(load, 'redis'):.3f} against {one.each(load, 'redis'):.3f} ms; a cluster "
            f"{cluster.each(load, 'redis'):.3f} ms)",
            at_most(against, 1.1),
            options.runs,
            broken=broken(*(result for each in (one, three, cluster) for result, _ in each.talks[load])),
        ),
        Row(
            "CPU without load of Redis, web and worker, three Redis and a cluster of three against one",
            "at most 2 ×",
            f"{most:.2f} × ({', '.join(f'{name} {value:.1f} ms a second' for name, value in idle.items())})",
            at_most(most, 2),
            options.runs,
        ),
    ]


def _costs(found: dict[str, _Found]) -> Table:
    table = Table(
        "Several Redis: CPU of Redis / web / worker",
        ["", *_KINDS],
        [
            [
                "without load, ms a second",
                *(" / ".join(f"{each.idle_share(part):.1f}" for part in _PARTS) for each in found.values()),
            ]
        ],
        "Redis: all of them together. All users have one address, whose line is on one Redis. Without rates: with them "
        "two messages in three ask that Redis first where there are three.",
    )
    for load in _LOADS:
        cells = [
            " / ".join(f"{each.each(load, part):.3f}" for part in _PARTS) + f" at {each.rate(load):.0f}/s"
            for each in found.values()
        ]
        table.rows.append([f"{load}, ms a reply", *cells])
    return table


def _commands(found: dict[str, _Found]) -> Table:
    names = sorted(
        {name for each in found.values() for name in each.calls},
        key=lambda name: -max(each.took[name] / max(each.replies, 1) for each in found.values()),
    )
    rows = [
        [
            name,
            *(
                f"{each.calls[name] / each.replies:.2f} ({each.took[name] / each.replies:.1f} µs)"
                for each in found.values()
            ),
        ]
        for name in names
        if name in _COUNTED or any(each.took[name] / max(each.replies, 1) >= _SHOWN for each in found.values())
    ]
    return Table("Several Redis: commands of a reply, and their time", ["", *_KINDS], rows)
