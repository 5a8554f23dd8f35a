"""How the system grows: measured costs, a simulation, and its check against real processes; docs/scale.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.__main__ import raise_file_limit
from bench.scale import costs, measured, needs, plans, report
from bench.scale.outcome import Outcome
from bench.scale.parts import Plan
from bench.scale.servers import Crowd, balance
from bench.scale.simulation import Simulation


def main() -> int:
    """Runs the chosen parts; exit status 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one or more of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation's chance (1)")
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for name in options.parts or PARTS:
        print(f"\n{name} …", flush=True)
        text = PARTS[name](options.seed)
        if options.write:
            report.write(name, text)
    return 0


def _run(found: Sequence[Plan], seed: int) -> list[Outcome]:
    outcomes = []
    for plan in found:
        began = time.monotonic()
        outcomes.append(Simulation(replace(plan, seed=seed)).run())
        print(f"  {plan.name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    return outcomes


def _simulate(seed: int) -> str:
    tables = [
        report.calm(_run(plans.CALM, seed)),
        report.faults(_run(plans.FAULTS, seed)),
    ]
    for table in tables:
        report.show(table)
        print()
    titles = (
        "Twice as many messages as the workers can answer, bound 6 s, a reply takes 2 s. Bars: 35 to 65 % admitted in "
        "each 10 s, and none waits longer than 7.8 s. Partitions and nodes: the messages of the busiest one as a "
        "multiple of the mean.",
        "Faults, at the same load. Killed workers are back after 5 s.",
    )
    parts = [f"{title}\n\n{report.markdown(table)}" for title, table in zip(titles, tables, strict=True)]
    return "\n\n".join(parts) + f"\n\n*`python -m bench.scale simulate --seed {seed}`*"


def _servers(seed: int) -> str:
    table = report.balances([balance(crowd, seed) for crowd in plans.CROWDS])
    report.show(table)
    return f"{report.markdown(table)}\n\n*`python -m bench.scale servers --seed {seed}`*"


def _compare(seed: int) -> str:
    found = measured.run(measured.SMALL)
    plan = replace(found.plan, reply=found.plan.reply + measured.OVERHEAD, spread=measured.SPREAD)
    simulated = [Simulation(replace(plan, seed=seed + n)).run() for n in range(_RUNS)]
    # Waits are of the time before the first kill, as in the real run.
    calm = replace(plan, kills=(), seconds=found.plan.kills[0][0])
    waits = [Simulation(replace(calm, seed=seed + n)).run().waits for n in range(_RUNS)]
    table = report.comparison(found, simulated, waits)
    report.show(table)
    kills = ", ".join(f"{when:.0f} s" for when, _ in found.plan.kills)
    return (
        f"{plan.sessions} users, {plan.workers} workers of {plan.slots} slots, a model of {found.plan.reply:g} s, "
        f"{plan.rate:g} messages/s for {plan.seconds:.0f} s, which is twice the capacity; bound {plan.bound:g} s. A "
        f"worker is killed after {kills} and runs again {found.plan.restart:.1f} s later.\n\n"
        f"Simulated {_RUNS} times.\n\n{report.markdown(table)}\n\n*`python -m bench.scale compare`*"
    )


def _costs(_: int) -> str:
    raise_file_limit()
    found = costs.measure()
    tables = [needs.costs(found), needs.loads(found), needs.limits(found)]
    for table in tables:
        report.show(table)
        print()
    titles = (
        "Measured on one machine with everything on it; the broker is a Redis of its own.",
        f"What large loads need when each process and Redis is busy for {needs.BUSY * 100:.0f} % of a core.",
        "Where one of each is full, at the same share of a core. Each row counts one kind of load, and no other.",
    )
    parts = [f"{title}\n\n{report.markdown(table)}" for title, table in zip(titles, tables, strict=True)]
    return "\n\n".join(parts) + "\n\n*`python -m bench.scale costs`*"


def _compare_servers(seed: int) -> str:
    crowd = Crowd(6, 5, 4, reading=0.1, seconds=60.0)
    table = report.balances([measured.run_crowd(crowd), balance(replace(crowd, seconds=400.0), seed)])
    table = [["", *table[0]], ["measured", *table[1]], ["simulated", *table[2]]]
    report.show(table)
    return f"{report.markdown(table)}\n\n*`python -m bench.scale compare-servers`*"


#: Simulations that are compared with one real run.
_RUNS = 50

PARTS: dict[str, Callable[[int], str]] = {
    "costs": _costs,
    "simulate": _simulate,
    "servers": _servers,
    "compare": _compare,
    "compare-servers": _compare_servers,
}

if __name__ == "__main__":
    sys.exit(main())
