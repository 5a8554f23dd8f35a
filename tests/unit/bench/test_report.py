"""The generated part of docs/benchmarks.md: what was measured anew replaces its own results and no others."""

from __future__ import annotations

from bench.report import BEGIN, END, PAGE, merged
from bench.results import Outcome, Row, Table


def test_a_benchmark_replaces_its_own_rows_and_sections() -> None:
    before = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    stays = merged(before, {}, {})
    assert "`idle` |" in stays
    assert "\n*`make bench ARGS=pools`*" in stays
    assert merged(stays, {}, {}) == stays
    new = Outcome(
        [Row("memory", "at most 50 KB", "41 | 42 KB", 0.8, 1)],
        [Table("Idle", ["what"], [["x"]])],
        at="2027-01-02 03:04:05",
        commit="abc",
    )
    page = merged(stays, {"idle": new}, {"idle": "idle.svg"})
    assert "| memory | at most 50 KB | 41 \\| 42 KB | met | 1 | 2027-01-02 at abc, load 0.0, 0.0 | `idle` |" in page
    assert page.count("`idle` |") == 1
    assert "### Idle\n\n![Idle](idle.svg)\n\n| what |\n|---|\n| x |\n\n*`make bench ARGS=idle`*" in page
    assert merged(page, {}, {}) == page
    others = [line for line in stays.splitlines() if "`idle`" not in line]
    assert [line for line in others if line not in page.splitlines()] == []
