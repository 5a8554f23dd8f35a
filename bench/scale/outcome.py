"""What a simulation found, in seconds and shares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench.scale.parts import IDLE, Partition, Plan, Session

#: Seconds over which the admitted share is judged.
WINDOW = 10.0


class Outcome:
    """Filled by the simulation, whose times are milliseconds."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        #: Messages and admitted ones, by window.
        self._windows: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        #: From acceptance to the first claim.
        self.waits: list[float] = []
        #: From the kill to the next claim, and from the promised time of a retry to its claim.
        self.begun_again: list[float] = []
        self.late_retries: list[float] = []
        self.replies = 0
        #: Messages that found no free session, and those whose node was away.
        self.starved = 0
        self.unavailable = 0
        #: Admitted messages that were not answered at the end although that is overdue.
        self.forgotten = 0
        self.by_partition: list[int] = []
        self.by_node: list[int] = []

    def arrived(self, now: float, admitted: bool) -> None:
        window = self._windows[int(now / 1000 / WINDOW)]
        window[0] += 1
        window[1] += admitted

    def claimed(self, session: Session, now: float) -> None:
        if session.first and session.accepted >= self.plan.after * 1000:
            self.waits.append((now - session.accepted) / 1000)
        if session.struck:
            self.begun_again.append((now - session.struck) / 1000)
        elif session.promised:
            self.late_retries.append((now - session.promised) / 1000)
        session.struck = session.promised = 0.0

    def answered(self, session: Session, now: float) -> None:
        self.replies += now >= self.plan.after * 1000

    def finish(self, sessions: Sequence[Session], partitions: Sequence[Partition], now: float) -> None:
        latest = now - 1000 * (2 * self.plan.bound + self.plan.reply)
        self.forgotten = sum(s.state != IDLE and s.accepted < latest for s in sessions)
        self.by_partition = [partition.accepted for partition in partitions]
        nodes: defaultdict[int, int] = defaultdict(int)
        for partition in partitions:
            nodes[id(partition.node)] += partition.accepted
        self.by_node = list(nodes.values())

    @property
    def shares(self) -> list[float]:
        """The admitted share of each whole window after the line has filled."""
        first, end = self.plan.after / WINDOW, self.plan.seconds / WINDOW
        return [a / max(m, 1) for n, (m, a) in sorted(self._windows.items()) if first <= n and n + 1 <= end]

    @property
    def rate(self) -> float:
        """Replies a second."""
        return self.replies / (self.plan.seconds - self.plan.after)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which the share `q` lies; 0.0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)] if ordered else 0.0


def imbalance(loads: Sequence[float]) -> float:
    """The largest as a multiple of the mean."""
    return max(loads) * len(loads) / sum(loads) if sum(loads) else 0.0
