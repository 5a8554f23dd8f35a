"""`python -m chatbot.worker.health [NODE]`: whether a worker runs tasks; for containers and supervisors.

NODE is the worker's name as given by `-n`, for example `worker2@%h`; without it all workers of this host are checked.
Exit status: 0 when they ran a task lately, 1 when one did not or none is known, 2 for an invalid setting. When Redis
does not answer or is full, the worker's state is unknown and the status is 0: a restart would not bring Redis back.
`/readyz` of web reports Redis.
"""

from __future__ import annotations

import argparse
import socket
import sys

from chatbot.config import read_settings
from chatbot.errors import ConfigurationError, StoreUnavailable
from chatbot.store.client import connect
from chatbot.telemetry import liveness, redis_memory


def main(arguments: list[str] | None = None) -> int:
    """Prints one line for each worker and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m chatbot.worker.health", description="Whether a worker runs tasks")
    parser.add_argument("node", nargs="?", help="the worker's name as given by -n; all of this host by default")
    node = parser.parse_args(arguments).node
    try:
        settings = read_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    client = connect(settings.redis.urls[0], 1, retries=0)
    try:
        workers = liveness.read_workers(client, settings.worker.health_timeout)
        if redis_memory.read_memory(client).full:
            print(f"unknown, as Redis is {redis_memory.FULL}")
            return 0
    except StoreUnavailable as error:
        print(f"unknown, as Redis does not answer: {error}")
        return 0
    finally:
        client.connection_pool.disconnect()
    return _report(workers, node)


def _report(workers: liveness.WorkerAges, node: str | None) -> int:
    host = socket.gethostname()
    wanted = node.replace("%h", host) if node else None
    found: dict[str, list[tuple[float, bool]]] = {}
    for worker, age in workers.ages.items():
        name, _, pid = worker.rpartition(" ")
        if name == wanted or (wanted is None and name.endswith(f"@{host}")):
            found.setdefault(name, []).append((age, name.endswith(f"@{host}") and liveness.runs_here(pid)))
    # A restarted worker is listed twice for a while, with its old and its new process id. Two that run under one name
    # are listed twice too: neither may be silent.
    newest = {
        name: max((age for age, runs in ages if runs), default=min(age for age, _ in ages))
        for name, ages in found.items()
    }
    if not newest:
        print(f"no sign of {wanted or f'any worker on {host}'}")
        return 1
    for name, age in newest.items():
        print(f"{name} {'runs tasks' if age <= workers.timeout else 'is SILENT'}: last signal {age:.1f} s ago")
    return 0 if all(age <= workers.timeout for age in newest.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
