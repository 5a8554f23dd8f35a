"""The registry of benchmarks, and the format of figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load_generator import Result
from bench.meter import Cost
from bench.paced_model import PacedModel
from bench.results import Outcome
from bench.system import Options

#: Milliseconds in a second.
MS = 1000.0

Measure = Callable[[Options, PacedModel], Outcome]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: its name, its subject, and the function that runs it."""

    name: str
    title: str
    measure: Measure


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(name: str, title: str) -> Callable[[Measure], Measure]:
    """Registers a function as the benchmark `name`."""

    def add(measure: Measure) -> Measure:
        BENCHMARKS[name] = Benchmark(name, title, measure)
        return measure

    return add


def select(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks with these names, all without names. Raises `KeyError` for an unknown name."""
    return [BENCHMARKS[name] for name in names] if names else list(BENCHMARKS.values())


def ms(seconds: float) -> str:
    """Seconds as a text in milliseconds."""
    return f"{seconds * MS:.1f} ms" if seconds < 0.1 else f"{seconds * MS:.0f} ms"


def broken(*results: Result) -> str:
    """A text about replies that were lost, doubled or out of order; empty without any."""
    texts = [f"{r.trouble()}: {r.problems[:1]}" for r in results if not r.kept]
    if not any(r.latencies for r in results):
        texts.append("no reply within the time measured")
    return "; ".join(texts)


def ratio(value: float, base: float) -> float:
    """The quotient; 0 when the base is 0 because the period was too short for a reply, which its row reports."""
    return value / base if base else 0.0


def cpu_each(cost: Cost, replies: int, *parts: str) -> str:
    """CPU milliseconds a reply, of each part."""
    return " / ".join(f"{cost.per(replies, part):.2f}" for part in parts)
