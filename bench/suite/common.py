"""What all benchmarks share: their register, and how figures are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load import Result
from bench.meter import Cost
from bench.model import Model
from bench.results import Outcome
from bench.stage import Options

#: Milliseconds in a second.
MS = 1000.0

Measure = Callable[[Options, Model], Outcome]


@dataclass(frozen=True)
class Benchmark:
    """A name, what it is about, and how it is run."""

    name: str
    title: str
    measure: Measure


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str, title: str) -> Callable[[Measure], Measure]:
    """Registers a function under a name."""

    def add(measure: Measure) -> Measure:
        BENCHMARKS[name] = Benchmark(name, title, measure)
        return measure

    return add


def select(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names, all when there are none. Raises `KeyError` with a name that is not known."""
    return [BENCHMARKS[name] for name in names] if names else list(BENCHMARKS.values())


def ms(seconds: float) -> str:
    """Seconds as milliseconds, for people."""
    return f"{seconds * MS:.1f} ms" if seconds < 0.1 else f"{seconds * MS:.0f} ms"


def broken(*results: Result) -> str:
    """What of the promise was not kept; empty when all was."""
    told = [f"{r.trouble()}: {r.problems[:1]}" for r in results if not r.kept]
    if not any(r.latencies for r in results):
        told.append("no reply within the time measured")
    return "; ".join(told)


def ratio(value: float, base: float) -> float:
    """0 where there is nothing to divide by: a stretch too short for a reply, which its row tells of."""
    return value / base if base else 0.0


def cpu_each(cost: Cost, replies: int, *parts: str) -> str:
    """ms of CPU a reply, of each part."""
    return " / ".join(f"{cost.per(replies, part):.2f}" for part in parts)
