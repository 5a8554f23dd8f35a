"""The results of `make chaos` as lines, and as the generated part of docs/benchmarks.md.

A run writes only its own rows: those of other runs stay.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from devtools.chaos.crowd import CrowdDelivery
from devtools.chaos.experiments import EXPERIMENTS
from devtools.chaos.findings import Finding
from devtools.chaos.overload import TRIES
from devtools.paths import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
_FAULTS = ("<!-- written by make chaos: faults begin -->", "<!-- written by make chaos: faults end -->")
_OVERLOAD = ("<!-- written by make chaos: overload begin -->", "<!-- written by make chaos: overload end -->")

COLUMNS = (
    *("fault", "times", "acknowledged", "lost", "doubled", "out of order"),
    *("reply p50 s", "p95 s", "max s", "struck", "back p50 s", "p95 s", "max s"),
)
_WIDTHS = (32, 5, 12, 4, 7, 12, 11, 6, 6, 6, 10, 6, 6)
HEADER = " ".join(f"{name:{'<' if n == 0 else '>'}{_WIDTHS[n]}}" for n, name in enumerate(COLUMNS))
LEGEND = (
    "reply: from a user's first attempt to send a message to its reply. struck: replies in progress or owed at a "
    "fault; back: from the fault to the reply, less the time that the model takes for one. A reply struck twice counts "
    "twice."
)
_TRY_COLUMNS = ("try", "what", "bar", "measured", "verdict")


@dataclass(frozen=True)
class Row:
    """The line of one fault."""

    cells: tuple[str, ...]

    @classmethod
    def of(cls, name: str, times: int, outcome: CrowdDelivery) -> Row:
        counts = (times, outcome.acknowledged, outcome.lost, outcome.doubled, outcome.out_of_order)
        back = _quantiles(outcome.recoveries)
        cells = (name, *map(str, counts), *_quantiles(outcome.waits), str(len(outcome.recoveries)), *back)
        return cls(cells)

    def line(self) -> str:
        return " ".join(f"{cell:{'<' if n == 0 else '>'}{_WIDTHS[n]}}" for n, cell in enumerate(self.cells))


def _quantiles(values: Sequence[float]) -> tuple[str, str, str]:
    """p50, p95 and the greatest; dashes without values."""
    if not values:
        return "–", "–", "–"
    ordered = sorted(values)
    p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return f"{statistics.median(ordered):.2f}", f"{p95:.2f}", f"{ordered[-1]:.2f}"


def verdict(name: str, findings: list[Finding], write: bool) -> bool:
    """Prints the findings of one try; returns whether all bars were met."""
    for finding in findings:
        print(f"{name}: {finding.what}: {finding.measured} (bar: {finding.bar}) {finding.verdict}", flush=True)
    if write:
        rows = [(name, f.what, f.bar, f.measured, f.verdict) for f in findings]
        _merge(_OVERLOAD, _TRY_COLUMNS, rows, list(TRIES))
    return all(finding.met for finding in findings)


def write_fault(row: Row) -> None:
    """Writes the row into docs/benchmarks.md, in place of an earlier one."""
    _merge(_FAULTS, COLUMNS, [row.cells], [*EXPERIMENTS, "kills at half the capacity", "kills at twice the capacity"])


def _merge(
    markers: tuple[str, str], columns: Sequence[str], rows: Sequence[Sequence[str]], order: Sequence[str]
) -> None:
    """Replaces the rows of the same names in the table between the markers; names not in `order` vanish."""
    text = PAGE.read_text("utf-8")
    head, begin, rest = text.partition(markers[0])
    body, end, tail = rest.partition(markers[1])
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks its markers, {markers[0]} and {markers[1]}")
    present = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in body.splitlines() if line]
    new = {row[0] for row in rows}
    kept = [row for row in present[2:] if row[0] not in new and row[0] in order]
    merged = sorted([*kept, *rows], key=lambda row: order.index(row[0]))
    numbers = [all(re.fullmatch(r"[\d.–]+", row[n]) for row in merged) for n in range(len(columns))]
    rule = ["---:" if number else "---" for number in numbers]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *merged))
    PAGE.write_text(f"{head}{begin}\n\n{lines}\n\n{end}{tail}", "utf-8")
