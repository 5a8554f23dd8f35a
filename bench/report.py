"""Results of benchmarks as tables on the terminal and as the generated part of docs/benchmarks.md with its plots."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
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
    """Writes the stored results into docs/benchmarks.md, between the markers, and draws the plots.

    What has no stored result stays as it is there: a run measures some benchmarks, and results stay on their machine.
    """
    found = {name: outcome for name in (*BENCHMARKS, *_OTHERS) if (outcome := results.saved(name)) is not None}
    pictures = plots.draw({name: outcome.series for name, outcome in found.items()}, DOCS / "images" / "bench")
    text = PAGE.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    before, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks its markers, {BEGIN} and {END}")
    PAGE.write_text(f"{head}{BEGIN}\n{merged(before, found, pictures)}\n{END}{tail}", "utf-8")
    print(f"\nwrote {PAGE}")


def merged(before: str, found: Mapping[str, Outcome], pictures: Mapping[str, str]) -> str:
    """The generated part of the page: `before` with the benchmarks in `found` in place of their earlier results."""
    rows, sections = _earlier(before)
    for name, outcome in found.items():
        rows[name] = [_target(name, row, outcome) for row in outcome.rows]
        sections[name] = [_section(name, table, pictures.get(name)) for table in outcome.tables]
    names = (*BENCHMARKS, *_OTHERS)
    lines = [
        "",
        "## Targets",
        "",
        "Each figure is the median of the number of runs in its row; `make bench ARGS=NAME` measures it again. *When* "
        "names the commit, and the machine's load average before and after.",
        "",
        "| what | target | measured | verdict | runs | when | NAME |",
        "|---|---|---|---|---|---|---|",
        *(line for name in names for line in rows.get(name, ())),
    ]
    if missing := [name for name in names if name not in rows and name not in sections]:
        lines += ["", f"Not measured: {', '.join(missing)}."]
    return "\n".join([*lines, *(f"\n{text}" for name in names for text in sections.get(name, ()))])


def _earlier(page: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The rows and the sections of a page, by benchmark."""
    rows: dict[str, list[str]] = {}
    sections: dict[str, list[str]] = {}
    targets, *further = re.split(r"(?m)^(?=### )", page)
    for line in targets.splitlines():
        if match := re.search(r"\| `(\S+)` \|$", line):
            rows.setdefault(match[1], []).append(line)
    commands = {_command(name): name for name in (*BENCHMARKS, *_OTHERS)}
    for section in further:
        if (match := re.search(r"\*`(make bench.*)`\*$", section.strip())) and match[1] in commands:
            sections.setdefault(commands[match[1]], []).append(section.strip())
    return rows, sections


def _section(name: str, table: Table, picture: str | None) -> str:
    drawn = [f"![{table.title}]({picture})", ""] if picture else []
    return "\n".join([f"### {table.title}", "", *drawn, *_markdown(table), "", f"*`{_command(name)}`*"])


def _command(name: str) -> str:
    return _OTHERS.get(name, f"make bench ARGS={name}")


def _target(name: str, row: Row, outcome: Outcome) -> str:
    measured = row.measured + (f"; {row.note}" if row.note else "") + (f"; {row.broken}" if row.broken else "")
    when = f"{outcome.at[:10]} at {outcome.commit}, load {outcome.load_before:.1f}, {outcome.load_after:.1f}"
    return f"| {row.what} | {row.target} | {_cell(measured)} | {row.verdict} | {row.runs} | {when} | `{name}` |"


def _markdown(table: Table) -> list[str]:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return [*lines, "", table.note] if table.note else lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
