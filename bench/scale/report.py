"""Tables on the terminal and between the markers of docs/scale.md."""

from __future__ import annotations

from collections.abc import Sequence

from bench.scale.measured import Measured
from bench.scale.outcome import Outcome, imbalance, quantile
from bench.scale.servers import Balance
from devtools.paths import ROOT

PAGE = ROOT / "docs" / "scale.md"
#: Bars: the admitted share at twice the capacity, and the longest wait as a multiple of the bound.
LEAST, MOST, LONGEST = 0.35, 0.65, 1.3


def calm(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Admission without faults."""
    rows = [
        [
            "plan",
            "admitted in 10 s",
            "wait p95, longest s",
            "replies/s",
            "partitions",
            "nodes",
            "retries late s",
            "bars",
        ]
    ]
    for o in outcomes:
        met = min(o.shares) >= LEAST and max(o.shares) <= MOST and max(o.waits) <= LONGEST * o.plan.bound
        rows.append(
            [
                o.plan.name,
                _shares(o),
                f"{quantile(o.waits, 0.95):.1f}, {max(o.waits):.1f}",
                f"{o.rate:.0f} of {o.plan.capacity:.0f}",
                f"{imbalance(o.by_partition):.2f}",
                f"{imbalance(o.by_node):.2f}",
                f"{max(o.late_retries, default=0):.1f}",
                "met" if met and not o.forgotten else "MISSED",
            ]
        )
    return rows


def faults(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Recovery."""
    rows = [["plan", "struck", "begun again p50, p95, last s", "longest wait s", "node away", "overdue at the end"]]
    for o in outcomes:
        again = [quantile(o.begun_again, q) for q in (0.5, 0.95, 1)]
        rows.append(
            [
                o.plan.name,
                str(len(o.begun_again)),
                ", ".join(f"{value:.1f}" for value in again) if o.begun_again else "–",
                f"{max(o.waits):.1f}",
                f"{o.unavailable} refused" if o.plan.lost else "–",
                str(o.forgotten),
            ]
        )
    return rows


def balances(found: Sequence[Balance]) -> list[list[str]]:
    """How evenly model servers are used."""
    rows = [["workers × calls", "servers", "max ÷ mean p50, p95, max", "above 1.3", "at the session's first server"]]
    for b in found:
        c = b.crowd
        values = ", ".join(f"{quantile(b.imbalances, q):.2f}" for q in (0.5, 0.95, 1))
        what = f", calls of all known, up to {c.reading:g} s old" if c.reading is not None else ""
        home = "–" if b.at_home is None else f"{b.at_home:.0%}"
        rows.append([f"{c.workers} × {c.calls}{what}", str(c.servers), values, f"{b.above:.1%}", home])
    return rows


def comparison(measured: Measured, simulated: Sequence[Outcome], waits: Sequence[list[float]]) -> list[list[str]]:
    """The same plan, measured once and simulated many times; `waits` are the simulated ones before the first kill."""
    names = (
        "admitted in each 10 s",
        "wait of the admitted before the first kill p50, p95, longest s",
        "replies/s, kills included",
        "replies struck by kills",
        "begun again after p50, p95, last s",
        "left unanswered",
    )
    columns = (_column([measured], [measured.waits]), _column(simulated, waits))
    return [["what", "measured", "simulated"], *(list(row) for row in zip(names, *columns, strict=True))]


def _column(found: Sequence[Measured | Outcome], waits: Sequence[list[float]]) -> list[str]:
    """Of several runs the range of what is one number in each, and the quantiles of what is many."""
    again = [value for each in found for value in each.begun_again]

    def over(values: Sequence[float], digits: int) -> str:
        low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
        return low if low == high else f"{low} to {high}"

    return [
        over([100 * share for each in found for share in each.shares], 0) + " %",
        _quantiles([value for each in waits for value in each]),
        over([each.rate for each in found], 2),
        over([len(each.begun_again) for each in found], 0),
        _quantiles(again),
        over([each.forgotten for each in found], 0),
    ]


def _quantiles(values: Sequence[float]) -> str:
    return ", ".join(f"{quantile(values, q):.2f}" for q in (0.5, 0.95, 1)) if values else "–"


def _shares(found: Outcome) -> str:
    return f"{min(found.shares) * 100:.0f} to {max(found.shares) * 100:.0f} %"


def show(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), flush=True)


def write(name: str, text: str) -> None:
    """Replaces what is between the markers of `name`. Raises `ValueError` without markers."""
    begin, end = (f"<!-- written by python -m bench.scale {name}: {edge} -->" for edge in ("begin", "end"))
    page = PAGE.read_text("utf-8")
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"{PAGE} lacks its markers, {begin} and {end}")
    head, _, rest = page.partition(begin)
    tail = rest.partition(end)[2]
    PAGE.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", "utf-8")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    first, *others = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([first, "|" + "---|" * len(rows[0]), *others])
