"""Inflicts every fault many times on real processes, and prints how many acknowledged messages were lost."""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from devtools.chaos.experiments import EXPERIMENTS, run_experiment
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.harness.sentinel_deployment import SentinelDeployment


def main() -> int:
    """Runs the chosen experiments; exit status 1 when any broke the promise."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="FAULT", help=f"one or more of {', '.join(EXPERIMENTS)}; all by default"
    )
    parser.add_argument("--times", type=int, help="repetitions of each; by default a number for each fault")
    parser.add_argument("--people", type=int, default=20, help="users who talk meanwhile (20)")
    parser.add_argument("--webs", type=int, default=2, help="web processes (2)")
    parser.add_argument("--workers", type=int, default=2, help="workers (2)")
    parser.add_argument("--tokens", type=int, default=40, help="tokens of a reply (40)")
    parser.add_argument("--interval", type=float, default=50, help="milliseconds between two tokens (50)")
    options = parser.parse_args()
    unknown = set(options.names) - set(EXPERIMENTS)
    if unknown:
        parser.error(f"unknown fault: {', '.join(sorted(unknown))}")
    broken = False
    print(
        f"{'fault':14} {'times':>5} {'acked':>6} {'answered':>8} {'lost':>4} {'doubled':>7} {'disordered':>10}"
        f" {'p50 s':>6} {'p95 s':>6} {'max s':>6} {'wait s':>6} {'took s':>6}"
    )
    names = options.names or list(EXPERIMENTS)
    with ModelServer(first=100, interval=options.interval, tokens=options.tokens, record=False) as model:
        for kind in (Deployment, SentinelDeployment):
            wanted = [name for name in names if EXPERIMENTS[name].deployment is kind]
            if wanted:
                with kind(model.url, webs=options.webs, workers=options.workers) as chat:
                    for name in wanted:
                        kept = inflict(chat, name, options.times or EXPERIMENTS[name].times, options.people)
                        broken = broken or not kept
    print(
        "p50, p95, max: from a fault to the reply of each acknowledged message that had none yet; "
        "wait: the longest time from a user's first attempt to send a message to its reply."
    )
    return 1 if broken else 0


def inflict(chat: Deployment, name: str, times: int, people: int) -> bool:
    """Prints the fault's line of the table; returns whether the promise was kept."""
    began = time.monotonic()
    outcome = run_experiment(chat, name, times, people).outcome
    waits = sorted(outcome.recoveries) or [0.0]
    p95 = waits[min(int(len(waits) * 0.95), len(waits) - 1)]
    print(
        f"{name:14} {times:5} {outcome.acknowledged:6} {outcome.answered:8} {outcome.lost:4}"
        f" {outcome.doubled:7} {outcome.out_of_order:10} {statistics.median(waits):6.2f} {p95:6.2f}"
        f" {waits[-1]:6.2f} {outcome.longest_wait:6.2f} {time.monotonic() - began:6.0f}",
        flush=True,
    )
    for problem in outcome.problems:
        print(f"  {problem}")
    return outcome.kept


if __name__ == "__main__":
    sys.exit(main())
