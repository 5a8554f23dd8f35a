"""Sends thousands of malformed and hostile requests and frames, and lets one client take more than its share.

Prints whether the web process or the other clients took harm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.hostile.assault import assault
from devtools.hostile.crowding import CROWDING, SETTINGS, crowd


def main() -> int:
    """Attacks a deployment; exit status 1 when it took harm."""
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="requests and frames (10000)")
    parser.add_argument("--slow", type=int, default=500, help="connections that never finish a request (500)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats a run; the time by default")
    parser.add_argument("--seconds", type=float, default=10, help="how long one client crowds the others, a case (10)")
    options = parser.parse_args()
    unharmed = True
    with ModelServer(tokens=6) as model, Deployment(model.url) as chat:
        found = assault(chat, options.cases, options.slow, options.seed)
        print(json.dumps({"seed": options.seed, **found}, indent=2))
        unharmed = found["unharmed"]
    for case in CROWDING:
        with ModelServer(tokens=6) as model, Deployment(model.url, **SETTINGS) as chat:
            found = crowd(chat, case, options.seconds)
            print(json.dumps(found), flush=True)
            unharmed = unharmed and found["unharmed"]
    return 0 if unharmed else 1


if __name__ == "__main__":
    sys.exit(main())
