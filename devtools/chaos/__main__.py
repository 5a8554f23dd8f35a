"""`make chaos`: every fault many times, on the real processes, and a table of what it did to the promise."""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from devtools.chaos.faults import FAULTS, run
from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.harness.sentinel import SentinelDeployment


def main() -> int:
    """Runs the faults that were asked for; exit status 1 when any broke the promise."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"of {', '.join(FAULTS)}; all by default")
    parser.add_argument("--times", type=int, help="how often each; by default as often as the promise is tried")
    parser.add_argument("--people", type=int, default=20, help="how many talk meanwhile (20)")
    parser.add_argument("--webs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=40, help="in a reply (40)")
    parser.add_argument("--interval", type=float, default=50, help="ms between two tokens (50)")
    options = parser.parse_args()
    unknown = set(options.faults) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    broken = False
    print(
        f"{'fault':14} {'times':>5} {'acked':>6} {'answered':>8} {'lost':>4} {'doubled':>7} {'disordered':>10}"
        f" {'p50 s':>6} {'p95 s':>6} {'max s':>6} {'wait s':>6} {'took s':>6}"
    )
    names = options.faults or list(FAULTS)
    with ModelServer(first=100, interval=options.interval, tokens=options.tokens, record=False) as model:
        for kind in (Deployment, SentinelDeployment):
            wanted = [name for name in names if FAULTS[name].deployment is kind]
            if wanted:
                with kind(model.url, webs=options.webs, workers=options.workers) as chat:
                    for name in wanted:
                        kept = inflict(chat, name, options.times or FAULTS[name].times, options.people)
                        broken = broken or not kept
    print(
        "Times are those from a fault to the reply of each acknowledged message that was waiting for one; "
        "wait is the longest that anybody had, from the first attempt to say something to the reply."
    )
    return 1 if broken else 0


def inflict(chat: Deployment, name: str, times: int, people: int) -> bool:
    """Prints the fault's line of the table; whether the promise was kept."""
    began = time.monotonic()
    outcome = run(chat, name, times, people).outcome
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
    return outcome.kept_the_promise


if __name__ == "__main__":
    sys.exit(main())
