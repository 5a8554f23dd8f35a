"""Results of benchmarks as tables on the terminal and as the generated part of docs/benchmarks.md with its plots."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from bench import plots, results
from bench.results import Outcome, Row, Table
from bench.suite import BENCHMARKS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN = "<!-- written by make bench: begin -->"
END = "<!-- written by make bench: end -->"

#: Benchmarks with a target of their own in the Makefile.
_OTHERS = {"soak": "make bench-soak"}
_WIDTH = 118


def print_outcome(outcome: Outcome) -> None:
    """Prints the rows and tables of one benchmark."""
    for row in outcome.rows:
        print(f"  {row.verdict.upper():22} {row.what}")
        for line in (f"target {row.target}; measured {row.measured} [{row.runs} runs]", row.note, row.broken):
            for part in textwrap.wrap(line, _WIDTH - 6):
                print(f"      {part}")
    for table in outcome.tables:
        print(f"  {table.title}")
        for text in _columns([table.columns, *table.rows]):
            print(f"      {text}")
    print(
        f"  took {outcome.seconds:.0f} s; load average {outcome.load_before:.2f} before, {outcome.load_after:.2f} after"
    )


def write() -> None:
    """Writes the stored results into docs/benchmarks.md, between the markers, and draws the plots."""
    found = {name: outcome for name in (*BENCHMARKS, *_OTHERS) if (outcome := results.saved(name)) is not None}
    pictures = plots.draw({name: outcome.series for name, outcome in found.items()}, DOCS / "images" / "bench")
    text = PAGE.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks its markers, {BEGIN} and {END}")
    PAGE.write_text(f"{head}{BEGIN}\n{_page(found, pictures)}\n{END}{tail}", "utf-8")
    print(f"\nwrote {PAGE}")


def _page(found: dict[str, Outcome], pictures: dict[str, str]) -> str:
    lines = ["", "## Targets", ""]
    dates = sorted(outcome.at for outcome in found.values())
    commits = sorted({outcome.commit for outcome in found.values()})
    loads = [x for o in found.values() for x in (o.load_before, o.load_after)]
    lines.append(
        f"Measured from {dates[0]} to {dates[-1]} UTC at {', '.join(commits)}; the machine's load average was between "
        f"{min(loads):.1f} and {max(loads):.1f}. Each figure is the median of the number of runs in its row; "
        "`make bench ARGS=NAME` measures it again."
    )
    lines += ["", "| what | target | measured | verdict | runs | NAME |", "|---|---|---|---|---|---|"]
    missing = []
    for name in (*BENCHMARKS, *_OTHERS):
        if name not in found:
            missing.append(name)
            continue
        lines += [_target(name, row) for row in found[name].rows]
    if missing:
        lines += ["", f"Not measured: {', '.join(missing)}."]
    for name, outcome in found.items():
        for table in outcome.tables:
            lines += ["", f"### {table.title}", ""]
            if name in pictures:
                lines += [f"![{table.title}]({pictures[name]})", ""]
            lines += _markdown(table)
            lines += ["", f"*`{_OTHERS.get(name, f'make bench ARGS={name}')}`*"]
    return "\n".join(lines)


def _target(name: str, row: Row) -> str:
    measured = row.measured + (f"; {row.note}" if row.note else "") + (f"; {row.broken}" if row.broken else "")
    return f"| {row.what} | {row.target} | {_cell(measured)} | {row.verdict} | {row.runs} | `{name}` |"


def _markdown(table: Table) -> list[str]:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return [*lines, "", table.note] if table.note else lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
