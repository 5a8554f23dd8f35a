"""The queue delay: how long the longest-waiting message has been ready for a worker.

A message does not wait for a worker while one answers it, while its retry is scheduled, or behind another message of
its session. So neither one user nor one slow reply adds to the queue delay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chatbot.store.client import clock
from chatbot.store.errors import store_errors
from chatbot.store.partitions import Partition, Partitions

#: Milliseconds over which the workers' pace is averaged: `pace_window` of scripts/_pace.lua.
_PACE_WINDOW = 10_000
#: Bounds of `retry_after`, in seconds.
_SHORTEST, _LONGEST = 1.0, 60.0


@dataclass(frozen=True)
class Line:
    """The sessions of one partition that are ready for a worker, as scripts/_line.lua sees them."""

    ready: int
    #: Seconds that the longest-waiting one has been ready.
    delay: float
    #: Sessions claimed lately while others were ready, weighted by age, and the seconds in which there were others.
    claims: float
    seconds: float


def read_lines(partitions: Sequence[Partition]) -> list[Line]:
    """The line of each of the partitions, in any order. Raises `StoreUnavailable`."""
    found: list[Line] = []
    with store_errors("queue delay"):
        for indexes in Partitions.by_client(partitions):
            group = [partitions[index] for index in indexes]
            client = group[0].client
            now = clock(client.time()) * 1000
            with client.pipeline(transaction=False) as pipeline:
                for partition in group:
                    pipeline.zcount(partition.shared.waiting, "-inf", now)
                    pipeline.zrange(partition.shared.waiting, 0, 0, withscores=True)
                    pipeline.hmget(partition.shared.pace, "claims", "ms", "at")
                answers = pipeline.execute()
            found += [_line(now, *answers[first : first + 3]) for first in range(0, len(answers), 3)]
    return found


def _line(now: float, ready: int, first: list[tuple[str, float]], stored: list[str | None]) -> Line:
    claims, milliseconds, at = (float(value or 0) for value in stored)
    weight = math.exp(min(at - now, 0) / _PACE_WINDOW)
    milliseconds = milliseconds * weight + _PACE_WINDOW * (1 - weight)
    return Line(ready, max(now - first[0][1], 0.0) / 1000 if first else 0.0, claims * weight, milliseconds / 1000)


def expected_wait(lines: Sequence[Line]) -> float:
    """Seconds that a new message must expect to wait for a worker, as scripts/_line.lua computes them.

    While the workers' pace is unknown, that is the queue delay.
    """
    ready = sum(line.ready for line in lines)
    if not ready:
        return 0.0
    if sum(line.claims for line in lines) < 1:
        return max(line.delay for line in lines)
    return ready / sum(line.claims / line.seconds for line in lines if line.claims)


def retry_after(expected: float, allowed: float) -> float:
    """Seconds after which a message may be accepted, now that it would have to wait for `expected` seconds and not for
    the `allowed` ones.

    The line in front of the workers only has to get shorter by a little: what is refused comes back over time.
    """
    return min(max(expected - allowed, expected / 10, _SHORTEST), _LONGEST)
