"""CPU seconds and memory of processes, children included."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True)
class Cost:
    """The CPU time of a period: user and system time in seconds, by part."""

    seconds: float
    cpu: dict[str, float] = field(default_factory=dict)

    def per(self, count: float, *parts: str) -> float:
        """CPU milliseconds of these parts, divided by `count`."""
        return sum(self.cpu[part] for part in parts) * 1000 / max(count, 1)

    def share(self, part: str) -> float:
        """The share of one core."""
        return self.cpu[part] / self.seconds


class Meter:
    """Measures from one call of `lap` to the next. A part is a set of process ids; the part `load` is this process."""

    def __init__(self, parts: Mapping[str, Iterable[int]]) -> None:
        self._parts = {name: list(pids) for name, pids in parts.items()}
        self.lap()

    def lap(self) -> Cost:
        """The cost since the last call."""
        now, cpu = time.monotonic(), {name: cpu_seconds(pids) for name, pids in self._parts.items()}
        cpu["load"] = time.process_time()
        before = getattr(self, "_before", (now, cpu))
        self._before = (now, cpu)
        return Cost(now - before[0], {name: cpu[name] - before[1][name] for name in cpu})


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes and all their descendants."""
    total = 0.0
    for pid in pids:
        # The time of ended children counts as their parent's.
        own = psutil.Process(pid).cpu_times()
        total += own.user + own.system + own.children_user + own.children_system
        for process in psutil.Process(pid).children(recursive=True):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def memory(pids: Iterable[int]) -> int:
    """Bytes of memory of these processes and all their descendants, as PSS: shared pages are divided."""
    total = 0
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            total += process.memory_full_info().pss
    return total
