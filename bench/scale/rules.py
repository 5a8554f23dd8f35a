"""The rules of admission and of the sweep, ported from `chatbot/sessions/scripts` for the simulation.

tests/redis/bench/test_scale_rules.py compares each with its script. Times are epoch milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Milliseconds over which the pace is averaged: _pace.lua.
PACE_WINDOW = 10_000.0
#: The share of the line's free part that one address may take; how far newcomers may exceed the line: _line.lua.
ADDRESS_SHARE, NEWCOMER_EXCESS = 8, 1.2
#: The part of the line's length up to which sessions of addresses in other partitions are not counted: _line.lua.
SHORT_LINE = 0.5
#: Milliseconds beyond the queue delay after which a session leaves an address's line in another partition: _line.lua.
LINE_EXCESS = 1000.0
#: Milliseconds after which a session counts as passed over: sweep.lua.
PASSED_OVER = 1000.0


@dataclass
class Pace:
    """Sessions claimed while others were ready, and the milliseconds in which there was a line, weighted by age."""

    claims: float = 0.0
    ms: float = 0.0
    at: float = 0.0

    def sums(self, time: float) -> tuple[float, float]:
        """Both sums at `time`."""
        weight = math.exp(min(self.at - time, 0.0) / PACE_WINDOW)
        return self.claims * weight, self.ms * weight + PACE_WINDOW * (1 - weight)

    def claimed(self, time: float) -> None:
        """A session was claimed while others were ready."""
        claims, self.ms = self.sums(time)
        self.claims, self.at = claims + 1, time


def expected_wait(
    line: int, own: int, claims: float, pace: float, allowed: float, queue_delay: float
) -> tuple[float | None, bool]:
    """The expected wait in milliseconds, None while the pace is unknown; and whether the message is refused.

    `line` sessions are ready, `own` of them are of the message's address; `pace` is claims in a millisecond, of which
    there were `claims` lately.
    """
    if line == 0:
        return 0.0, False
    if claims < 1:
        return None, 0 < allowed < queue_delay
    length = allowed * pace
    room = own < ADDRESS_SHARE * (length - line) or (own == 0 and line < NEWCOMER_EXCESS * length)
    return line / pace, allowed > 0 and not room


def short_wait(line: int, claims: float, pace: float, allowed: float, queue_delay: float) -> float | None:
    """The expected wait where an address's line is in another partition, 0 while it is unknown; None where that one is
    asked. The arguments are those of `expected_wait`."""
    if line == 0:
        return 0.0
    if claims < 1:
        return 0.0 if not 0 < allowed < queue_delay else None
    return line / pace if allowed == 0 or line < SHORT_LINE * allowed * pace else None


def published_again(checks: int) -> bool:
    """Whether the sweep publishes a task for an owed session at this check: the first, third, seventh, ..."""
    publish = 1
    while publish < checks:
        publish = 2 * publish + 1
    return publish == checks


def unclaimed_wait(checks: int, first: float, longest: float) -> float:
    """Milliseconds until the next check of a session that no worker has claimed."""
    return min(first * 2.0 ** (checks - 1), longest)
