"""Inflicts faults on real processes while users talk, counts what is lost, and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator

from devtools.chaos import kills, overload, report
from devtools.chaos.crowd import Crowd
from devtools.chaos.deployments import VersionsDeployment
from devtools.chaos.experiments import EXPERIMENTS, run_experiment
from devtools.fake_model import ModelServer
from devtools.harness.deployment import CannotRun, Deployment

KILLS = "kills"
#: The users of `kills`, by load: a user has one message under way at a time.
LOADS = {"half": kills.SLOTS // 2, "twice": 2 * kills.SLOTS}


def main() -> int:
    """Runs the chosen experiments; exit status 1 when any broke the promise."""
    options = parse()
    names = options.names or list(EXPERIMENTS)
    kept = True
    print(report.HEADER)
    faults = [name for name in names if name in EXPERIMENTS]
    VersionsDeployment.ref = options.old
    for kind in dict.fromkeys(EXPERIMENTS[name].deployment for name in faults):
        wanted = [name for name in faults if EXPERIMENTS[name].deployment is kind]
        with started(kind, options) as (chat, model):
            for name in wanted:
                kept = (chat is None or inflict(chat, model, name, options)) and kept
    if KILLS in names:
        for load in LOADS if options.load == "both" else [options.load]:
            kept = kill_many(load, options) and kept
    for name in names:
        if name in overload.TRIES:
            kept = report.verdict(name, overload.TRIES[name](), options.write) and kept
    print(report.LEGEND)
    return 0 if kept else 1


def parse() -> argparse.Namespace:
    known = [*EXPERIMENTS, KILLS, *overload.TRIES]
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(known)}; all faults by default"
    )
    parser.add_argument("--times", type=int, help="repetitions of each fault; by default a number for each")
    parser.add_argument("--users", type=int, default=20, help="users: twice as many as the workers have slots (20)")
    parser.add_argument("--webs", type=int, default=2, help="web processes (2)")
    parser.add_argument("--workers", type=int, default=2, help="workers (2)")
    parser.add_argument("--tokens", type=int, default=40, help="tokens of a reply (40)")
    parser.add_argument("--interval", type=float, default=50, help="milliseconds between two tokens (50)")
    parser.add_argument("--old", default="HEAD~1", metavar="REF", help="`versions`: the other version (HEAD~1)")
    parser.add_argument("--count", type=int, default=1000, help=f"`{KILLS}`: how many (1000)")
    parser.add_argument("--pause", type=float, default=2.0, help=f"`{KILLS}`: seconds from one to the next (2)")
    parser.add_argument("--load", choices=[*LOADS, "both"], default="both", help=f"`{KILLS}`: of the workers' capacity")
    parser.add_argument("--write", action="store_true", help="write the rows into docs/benchmarks.md")
    options = parser.parse_args()
    unknown = set(options.names) - set(known)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


@contextlib.contextmanager
def started(kind: type[Deployment], options: argparse.Namespace) -> Iterator[tuple[Deployment | None, ModelServer]]:
    """A chat whose workers have half as many slots as there are users, so that these ask for twice what it can do."""
    slots = max(options.users // (2 * options.workers), 1)
    with ModelServer(first=100, interval=options.interval, tokens=options.tokens, record=False) as model:
        try:
            chat = kind(model.url, webs=options.webs, workers=options.workers, worker_concurrency=slots)
        except CannotRun as reason:
            print(f"skipped: {reason}")
            yield None, model
            return
        with chat:
            yield chat, model


def inflict(chat: Deployment, model: ModelServer, name: str, options: argparse.Namespace) -> bool:
    """Runs one experiment; returns whether the promise was kept."""
    began = time.monotonic()
    times = options.times or EXPERIMENTS[name].times
    before = last_request(model)
    crowd = run_experiment(chat, model, name, times, options.users, reply_length=reply_length(options))
    kept = show(name, times, crowd, began, options)
    show_tokens(model, before, crowd)
    return kept


def kill_many(load: str, options: argparse.Namespace) -> bool:
    """Kills processes at one load; returns whether the promise was kept."""
    began = time.monotonic()
    slots = kills.SLOTS // kills.WORKERS
    with (
        ModelServer(first=100, interval=options.interval, tokens=options.tokens, record=False) as model,
        Deployment(model.url, webs=kills.WEBS, workers=kills.WORKERS, worker_concurrency=slots) as chat,
    ):
        crowd = kills.run_kills(chat, model, options.count, LOADS[load], options.pause, reply_length(options))
        show_tokens(model, 0, crowd)
    return show(f"{KILLS} at {load} the capacity", options.count, crowd, began, options)


def last_request(model: ModelServer) -> int:
    return max((record.number for record in model.requests()), default=0)


def show_tokens(model: ModelServer, before: int, crowd: Crowd) -> None:
    """Prints how many tokens the model server has generated since its request `before`, for each that users see."""
    generated = sum(record.tokens for record in model.requests(before))
    # A model server that was killed has lost its count.
    if crowd.outcome.shown and generated:
        print(f"  {generated / crowd.outcome.shown:.2f} tokens generated for each one shown", flush=True)


def show(name: str, times: int, crowd: Crowd, began: float, options: argparse.Namespace) -> bool:
    outcome = crowd.outcome
    row = report.Row.of(name, times, outcome)
    print(f"{row.line()} {time.monotonic() - began:6.0f} s", flush=True)
    for problem in outcome.problems[:20]:
        print(f"  {problem}")
    if options.write:
        report.write_fault(row)
    return outcome.kept


def reply_length(options: argparse.Namespace) -> float:
    """Seconds that the model takes for a reply."""
    return float(0.1 + options.interval * (options.tokens - 1) / 1000)


if __name__ == "__main__":
    sys.exit(main())
