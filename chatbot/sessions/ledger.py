"""The ledger: the sessions with unanswered messages, each with the due time of its next check.

A message is in it before the client gets its `ack`. So a message is answered though its task, or the worker, is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from chatbot.errors import StoreUnavailable
from chatbot.sessions.leases import GRACE, LEASE
from chatbot.store.errors import store_errors
from chatbot.store.partitions import Node, Partition, Store, partitions_of
from chatbot.store.scripts import Scripts, Value

logger = logging.getLogger(__name__)

#: Seconds between two sweeps, over all processes.
SWEEP_INTERVAL = 1.0
#: Seconds for which the figures of a partition count after they were read.
FIGURES_LIFE = 5.0
#: Milliseconds between two checks of a session that no worker takes: at first, and at most after doubling each time.
FIRST_WAIT = 2000
LONGEST_WAIT = 60_000
#: Sessions of one sweep; the sweep a second later has the next ones.
SWEEP_SIZE = 1000


class Overdue(NamedTuple):
    """Ids of sessions with unanswered messages."""

    #: A worker died or postponed the reply, or the task was lost: ahead of new messages.
    owed: list[str]
    #: No worker has claimed them yet: the task may have been lost, or waits in the queue.
    unclaimed: list[str]
    #: Owed as well, and returned by an earlier sweep: their task is in the queue, if it was not lost.
    queued: list[str]


class Ledger:
    """Every method raises `StoreUnavailable` when Redis fails."""

    def __init__(self, store: Store) -> None:
        self._partitions = partitions_of(store)
        self._scripts = Scripts()
        self._figures = Figures()

    def overdue(self, node: Node | None = None) -> Overdue | None:
        """The sessions that need a worker, of one node or of all; None when another process has just swept them all.

        Each becomes due again later, and the leases of dead workers are released.
        """
        partitions = self._partitions.all if node is None else self._partitions.of_node(node)
        swept: list[list[list[str]]] = []
        for places in self._partitions.by_client(partitions):
            calls = [self._call(partitions[place]) for place in places]
            answers = self._scripts.run_many("sweep", partitions[places[0]], calls)
            for place, answer in zip(places, answers, strict=True):
                if isinstance(answer, StoreUnavailable):
                    logger.warning("a partition could not be swept: %s", answer)
                    continue
                status, figures, *found = answer
                if figures:
                    self._figures.store(partitions[place], figures)
                if status == "swept":
                    swept.append(found)
        if not swept:
            return None
        return Overdue(*([session for part in parts for session in part] for parts in zip(*swept, strict=True)))

    def check_next(self, sessions: Sequence[str]) -> None:
        """Makes sessions that got no worker due at the next sweep, those first that became ready first."""
        with store_errors("ledger"):
            for session in sessions:
                partition = self._partitions.of(session)
                ready = partition.client.zscore(partition.shared.waiting, session)
                # Only where the session still is in the ledger.
                partition.client.zadd(partition.shared.ledger, {session: ready or 0}, xx=True, lt=True)

    def size(self, node: Node | None = None) -> int:
        """The number of sessions with unanswered messages, of one node or of all."""
        partitions = self._partitions.all if node is None else self._partitions.of_node(node)
        with store_errors("ledger"):
            return sum(int(partition.client.zcard(partition.shared.ledger)) for partition in partitions)

    def _call(self, partition: Partition) -> tuple[tuple[str, ...], tuple[()], dict[str, Value]]:
        arguments: dict[str, Value] = {
            "limit": SWEEP_SIZE,
            "interval_ms": int(SWEEP_INTERVAL * 900),
            "lease_ms": LEASE,
            "grace_ms": GRACE,
            "first_wait_ms": FIRST_WAIT,
            "longest_wait_ms": LONGEST_WAIT,
            "others": self._figures.others(partition) if self._partitions.several else "",
        }
        return (*partition.shared, partition.swept), (), arguments


class Figures:
    """What the sweeps of this process have read of each partition. Safe for many threads."""

    def __init__(self) -> None:
        self._read: dict[Partition, tuple[float, list[float]]] = {}
        self._lock = threading.Lock()

    def store(self, partition: Partition, figures: Sequence[str | int]) -> None:
        """Stores those of scripts/sweep.lua: sessions that are ready, claims, claims in a ms, and ms of queue delay."""
        with self._lock:
            self._read[partition] = time.monotonic(), [float(figure) for figure in figures]

    def others(self, partition: Partition) -> str:
        """The figures of all other partitions together, as scripts/_pace.lua reads them. One that failed lately is left
        out: what waits there is not served meanwhile, nor does it take a worker."""
        now = time.monotonic()
        with self._lock:
            found = [
                figures
                for other, (at, figures) in self._read.items()
                if other is not partition and now - at < FIGURES_LIFE
            ]
        ready, claims, rate = (sum(figures[place] for figures in found) for place in range(3))
        delay = max((figures[3] for figures in found), default=0)
        return f"{ready:.0f}:{claims:.6g}:{rate:.6g}:{delay:.0f}"
