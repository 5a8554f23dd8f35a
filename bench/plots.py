"""The plots of docs/benchmarks.md: small SVG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot

#: No fonts and no random names: the files stay small, and equal figures give equal files.
mpl.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
)
_SIZE = (7.0, 2.6)


def draw(series: dict[str, dict[str, Any]], folder: Path) -> dict[str, str]:
    """Draws the plots that have figures; returns the path in docs/benchmarks.md by benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    if "cost" in series.get("cost", {}):
        drawn["cost"] = _save(_cost(series["cost"]["cost"]), folder, "cost")
    if series.get("streams", {}).get("streams"):
        drawn["streams"] = _save(_streams(series["streams"]["streams"]), folder, "streams")
    if series.get("soak", {}).get("minutes"):
        drawn["soak"] = _save(_soak(series["soak"]), folder, "soak")
    return drawn


def _cost(bars: dict[str, dict[str, float]]) -> Any:
    figure, axes = pyplot.subplots(figsize=_SIZE)
    left = dict.fromkeys(bars, 0.0)
    for part, label in (("web", "web, or publisher"), ("worker", "worker"), ("redis", "Redis")):
        widths = [bars[name][part] for name in bars]
        axes.barh(list(bars), widths, left=list(left.values()), label=label)
        left = {name: left[name] + bars[name][part] for name in bars}
    axes.set_xlabel("ms of CPU a reply, or a task")
    axes.legend(loc="upper right", fontsize=8)
    return figure


def _streams(steps: list[list[float]]) -> Any:
    figure, axes = pyplot.subplots(figsize=_SIZE)
    count = [step[0] for step in steps]
    axes.plot(count, [step[2] * 1000 for step in steps], "o-", label="p99")
    axes.plot(count, [step[1] * 1000 for step in steps], "o-", label="p50")
    axes.axhline(250, linestyle="--", linewidth=1, color="gray")
    axes.set_yscale("log")
    axes.set_xlabel("streams at once, 20 tokens/s each")
    axes.set_ylabel("token to delta, ms")
    axes.legend(fontsize=8)
    return figure


def _soak(soak: dict[str, Any]) -> Any:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=_SIZE)
    for part, values in soak["megabytes"].items():
        left.plot(soak["minutes"], values, label=part)
    left.set_ylabel("MB")
    left.set_ylim(bottom=0)
    left.legend(fontsize=8)
    for name, values in soak["milliseconds"].items():
        right.plot(soak["minutes"], values, label=name)
    right.set_ylabel("reply, ms")
    right.set_ylim(bottom=0)
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xlabel("minutes")
    return figure


def _save(figure: Any, folder: Path, name: str) -> str:
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)
    return f"images/bench/{name}.svg"
