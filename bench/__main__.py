"""Runs the benchmarks, prints their tables, stores the results, and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import time

from bench import report, results
from bench.paced_model import PacedModel
from bench.results import Outcome
from bench.suite import BENCHMARKS, Benchmark, select
from bench.system import Options

#: Open files of this process with the clients of ten thousand sockets.
_FILES = 20_000


def main() -> int:
    """Runs the chosen benchmarks; exit status 1 when one failed, not when a target was missed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    names = ", ".join(BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {names}; all by default")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each, whose median counts (3)")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="write the stored results into docs/benchmarks.md; without a NAME, measure nothing",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor for durations and counts, to try the suite (1)"
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark: {', '.join(unknown)}; there are {names}")
    raise_file_limit()
    if options.docs and not options.names:
        report.write()
        return 0
    failed = False
    with PacedModel() as model:
        for benchmark in select(options.names):
            try:
                measured = measure(benchmark, Options(options.runs, options.scale), model)
            except Exception as error:  # noqa: BLE001 - the others can still be measured
                failed = True
                print(f"\n{benchmark.name} FAILED: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            report.print_outcome(measured)
            if options.scale == 1:
                results.save(benchmark.name, measured)
    if options.docs or (not options.names and not failed and options.scale == 1):
        report.write()
    return 1 if failed else 0


def measure(benchmark: Benchmark, options: Options, model: PacedModel) -> Outcome:
    """Runs one benchmark, and notes its duration and the load of the machine."""
    print(f"\n{benchmark.name}: {benchmark.title} …", flush=True)
    began, load = time.monotonic(), os.getloadavg()[0]
    outcome = benchmark.measure(options, model)
    outcome.load_before, outcome.load_after = load, os.getloadavg()[0]
    outcome.seconds = time.monotonic() - began
    return outcome


def raise_file_limit() -> None:
    """Raises the limit of open files for this process and its children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft < _FILES:
        print(f"Only {soft} open files are allowed: `idle` needs {_FILES} (ulimit -n)", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
