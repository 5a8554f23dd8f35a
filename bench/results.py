"""The results of a benchmark, stored as JSON: rows for the table of targets, further tables, series for plots."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results"

#: A value this near to its target is marked: the next run may fall on the other side.
_NEAR = 0.04


@dataclass
class Row:
    """One target and the measured value. `ratio` is above 1 when the target is not met."""

    what: str
    target: str
    measured: str
    ratio: float
    #: The number of runs whose median is the measured value.
    runs: int
    #: Why the target is not met, or another remark.
    note: str = ""
    #: Replies that were lost, came twice or out of order: then the target is not met at any speed.
    broken: str = ""

    @property
    def verdict(self) -> str:
        if self.broken:
            return "not met"
        verdict = "met" if self.ratio <= 1 else "not met"
        return f"{verdict}, at its limit" if abs(self.ratio - 1) <= _NEAR else verdict


@dataclass
class Table:
    """Figures without a target."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass
class Outcome:
    """All results of one benchmark."""

    rows: list[Row] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    #: Numbers for plots, by name.
    series: dict[str, Any] = field(default_factory=dict)
    #: The machine's load average at the beginning and the end: other programs on the machine show here.
    load_before: float = 0.0
    load_after: float = 0.0
    seconds: float = 0.0
    at: str = ""
    commit: str = ""


def at_most(value: float, limit: float) -> float:
    """The ratio of a value whose target is an upper limit."""
    return value / limit


def at_least(value: float, limit: float) -> float:
    """The ratio of a value whose target is a lower limit."""
    return limit / value if value else float("inf")


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def save(name: str, outcome: Outcome) -> None:
    FOLDER.mkdir(exist_ok=True)
    outcome.commit = _commit()
    outcome.at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    (FOLDER / f"{name}.json").write_text(json.dumps(asdict(outcome), indent=1) + "\n", "utf-8")


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)  # noqa: S607
    return found.stdout.strip()


def saved(name: str) -> Outcome | None:
    """The results of the last run of a benchmark, None without one."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text("utf-8"))
    document["rows"] = [Row(**row) for row in document["rows"]]
    document["tables"] = [Table(**table) for table in document["tables"]]
    return Outcome(**document)
