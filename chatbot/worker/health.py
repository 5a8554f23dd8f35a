"""`python -m chatbot.worker.health [NODE]`: whether a worker takes and runs tasks; for containers and supervisors.

NODE is the worker's name as given by `-n`, `worker2@%h` say; without it all workers of this host are looked at.
Exit status 0 when they ran something lately, 1 when one did not or none is known, 2 for a setting that makes no sense.
When Redis does not answer nothing is known of the worker, and it ends with 0: starting a worker anew brings no Redis
back, and `/readyz` of web tells.
"""

from __future__ import annotations

import argparse
import socket
import sys

from chatbot.config import read_settings
from chatbot.errors import ConfigurationError, StoreUnavailable
from chatbot.store.client import connect
from chatbot.telemetry import liveness


def main(arguments: list[str] | None = None) -> int:
    """Prints one line and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m chatbot.worker.health", description="Whether a worker runs tasks")
    parser.add_argument("node", nargs="?", help="the worker's name as given by -n; all of this host by default")
    node = parser.parse_args(arguments).node
    try:
        settings = read_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    client = connect(settings.redis.url, 1, retries=0)
    try:
        workers = liveness.read_workers(client, settings.worker.health_timeout)
    except StoreUnavailable as error:
        print(f"unknown, as Redis does not answer: {error}")
        return 0
    finally:
        client.connection_pool.disconnect()
    return _tell(workers, node)


def _tell(workers: liveness.WorkerAges, node: str | None) -> int:
    host = socket.gethostname()
    wanted = node.replace("%h", host) if node else None
    newest: dict[str, float] = {}
    for worker, age in workers.ages.items():
        name = worker.rpartition(" ")[0]
        if name == wanted or (wanted is None and name.endswith(f"@{host}")):
            # One that was started anew under its name stands here twice for a while.
            newest[name] = min(age, newest.get(name, age))
    if not newest:
        print(f"no sign of {wanted or f'any worker on {host}'}")
        return 1
    for name, age in newest.items():
        print(f"{name} {'runs tasks' if age <= workers.timeout else 'is SILENT'}: last proof {age:.1f} s ago")
    return 0 if all(age <= workers.timeout for age in newest.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
