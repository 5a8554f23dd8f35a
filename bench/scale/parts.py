"""What a simulation consists of: its plan, and the states of sessions, partitions, nodes and workers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from bench.scale.rules import Pace
from chatbot.worker.services import recovery_slots

#: Without an unanswered message; ready for a worker; with a lease; waiting for a retry.
IDLE, READY, HELD, POSTPONED = range(4)


@dataclass(frozen=True)
class Plan:
    """The system, its load and what happens to it. Times are seconds."""

    name: str
    #: Messages a second, and whether they come at random or evenly.
    rate: float
    workers: int
    slots: int
    reply: float = 2.0
    #: Standard deviation of the length of a reply, as a part of `reply`.
    spread: float = 0.0
    poisson: bool = True
    bound: float = 6.0
    sessions: int = 400
    addresses: int = 8
    partitions: int = 1
    nodes: int = 1
    #: Whether a claim counts in a partition's pace when any partition has a line, not only its own.
    common_line: bool = True
    seconds: float = 60.0
    #: From here on outcomes count: the line fills first.
    after: float = 20.0
    #: Times, and how many workers are killed then; seconds until one of them runs again.
    kills: tuple[tuple[float, int], ...] = ()
    restart: float = 5.0
    #: When the first node is lost, and when it is back.
    lost: tuple[float, float] | None = None
    #: The share of messages that fail once.
    failing: float = 0.0
    seed: int = 1

    @property
    def capacity(self) -> float:
        """Replies a second."""
        return self.workers * self.slots / self.reply

    @property
    def recovery_slots(self) -> int:
        return recovery_slots(self.slots)


@dataclass(eq=False)
class Node:
    """One Redis."""

    down: bool = False
    #: Heap of due times of ready sessions; an entry counts while the session has that due time.
    ledger: list[tuple[float, int, Session]] = field(default_factory=list)
    #: Sessions whose worker is dead.
    dead: set[Session] = field(default_factory=set)
    #: Sessions whose task ran while the node was away.
    missed: list[Session] = field(default_factory=list)
    #: When the last session that was claimed from the line had become ready.
    passed: float = 0.0


@dataclass
class Figures:
    """What is published of a partition, or of several."""

    line: int = 0
    claims: float = 0.0
    #: Sessions claimed in a millisecond.
    pace: float = 0.0
    #: Milliseconds that the first one has been ready.
    delay: float = 0.0


@dataclass(eq=False)
class Address:
    """Where the users of one address are counted."""

    partition: Partition
    #: Its sessions in the line, with the times at which they entered it.
    line: dict[Session, float] = field(default_factory=dict)


@dataclass(eq=False)
class Partition:
    """Sessions with one line and one pace."""

    node: Node
    line: int = 0
    pace: Pace = field(default_factory=Pace)
    #: What the others know of it, and what it knows of all others.
    seen: Figures = field(default_factory=Figures)
    others: Figures = field(default_factory=Figures)
    #: Ready sessions with the times since which they are, oldest first; some are not ready any longer.
    waiting: deque[tuple[float, Session]] = field(default_factory=deque)
    accepted: int = 0

    def queue_delay(self, now: float) -> float:
        """Milliseconds that the session that is ready for longest has been ready."""
        while self.waiting and (self.waiting[0][1].state != READY or self.waiting[0][1].ready != self.waiting[0][0]):
            self.waiting.popleft()
        return max(now - self.waiting[0][0], 0.0) if self.waiting else 0.0


@dataclass(eq=False)
class Worker:
    """One worker process."""

    alive: bool = False
    starts: int = 0
    #: Free slots for recovery.
    recovery: int = 0
    active: set[Session] = field(default_factory=set)


@dataclass(eq=False)
class Session:
    """A session with at most one unanswered message."""

    partition: Partition
    address: Address
    state: int = IDLE
    worker: Worker | None = None
    #: Whether it is claimed in a slot for recovery.
    recovery: bool = False
    accepted: float = 0.0
    ready: float = 0.0
    claimed: float = 0.0
    due: float = 0.0
    #: Changes with each claim and each kill.
    attempt: int = 0
    owed: bool = False
    #: No attempt at its message was made.
    first: bool = False
    #: The sweep's checks while it is owed, and before it was claimed.
    checks: int = 0
    looks: int = 0
    #: When its worker was killed, and when its retry is due; 0 while it does not apply.
    struck: float = 0.0
    promised: float = 0.0
