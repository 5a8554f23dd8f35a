"""Sends thousands of malformed and hostile requests and frames, and prints whether the web process took harm."""

from __future__ import annotations

import argparse
import json
import sys
import time

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from devtools.hostile.assault import assault


def main() -> int:
    """Attacks a deployment; exit status 1 when it took harm."""
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="requests and frames (10000)")
    parser.add_argument("--slow", type=int, default=500, help="connections that never finish a request (500)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats a run; the time by default")
    options = parser.parse_args()
    with ModelServer(tokens=6) as model, Deployment(model.url) as chat:
        found = assault(chat, options.cases, options.slow, options.seed)
        print(json.dumps({"seed": options.seed, **found}, indent=2))
    return 0 if found["unharmed"] else 1


if __name__ == "__main__":
    sys.exit(main())
