"""The ledger: the sessions with unanswered messages, each with the due time of its next check.

A message is in it before the client gets its `ack`. So a message is answered though its task, or the worker, is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import hiredis
import redis

from chatbot.errors import StoreUnavailable
from chatbot.sessions.leases import GRACE, LEASE
from chatbot.store.client import pool_of_key
from chatbot.store.connections import ask_packed
from chatbot.store.errors import store_errors
from chatbot.store.partitions import Partition, PartitionGroup, Store, partitions_of
from chatbot.store.scripts import Scripts, Value

logger = logging.getLogger(__name__)

#: Seconds between two sweeps, over all processes.
SWEEP_INTERVAL = 1.0
#: The same while a worker cannot fetch tasks: sweeps alone find new messages then.
OUTAGE_INTERVAL = 0.2
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
    #: The partitions with charges that are not settled.
    charged: list[Partition]


class Ledger:
    """Every method but `missed` and `check_next` raises `StoreUnavailable` when Redis fails."""

    def __init__(self, store: Store, settled: Callable[[PartitionGroup], bool] = lambda _: True) -> None:
        """`settled` returns whether a group's Redis can say which workers live: see `Listener.settled`."""
        self._settled = settled
        self._partitions = partitions_of(store)
        self._scripts = Scripts()
        self._figures = Figures()
        # Sessions whose task ran while their Redis failed.
        self._missed: dict[PartitionGroup, set[str]] = {}

    def missed(self, session: str) -> None:
        """Notes that a task ended without its session's Redis: the session is owed a reply once that answers again."""
        missed = self._missed.setdefault(self._partitions.of(session).group, set())
        if len(missed) < SWEEP_SIZE:
            missed.add(session)

    def overdue(self, group: PartitionGroup | None = None, interval: float = SWEEP_INTERVAL) -> Overdue | None:
        """The sessions that need a worker, of one group or of all; None when another process has just swept them all.

        `interval` is the time in seconds until this process sweeps again. Each session becomes due again later, and the
        leases of dead workers are released.
        """
        partitions = self._partitions.all if group is None else self._partitions.in_group(group)
        again = self._found((group,) if group else self._partitions.groups)
        swept: list[tuple[Partition, list[Any]]] = []
        ready, failure = self._figures.any_ready(), None
        for indexes in self._partitions.by_client(partitions):
            busy = self._busy([partitions[index] for index in indexes], ready)
            if not busy:
                continue
            seen = self._figures.seen()
            calls = [self._call(partition, seen, interval) for partition in busy]
            try:
                answers = self._scripts.run_many("sweep", busy[0], calls)
            except StoreUnavailable as error:
                failure = error
                continue
            for partition, answer in zip(busy, answers, strict=True):
                if isinstance(answer, StoreUnavailable):
                    logger.warning("a partition could not be swept: %s", answer)
                else:
                    swept.append((partition, answer))
        if failure:
            if not swept:
                raise failure
            # What the sweeps of another master have found is due later by now: it must not be lost.
            logger.warning("some partitions could not be swept: %s", failure)
        return self._overdue(swept, again)

    def _overdue(self, swept: list[tuple[Partition, list[Any]]], again: list[str]) -> Overdue | None:
        """What sweeps have found, and the sessions that are owed a reply `again`."""
        lists: list[list[list[str]]] = [[again, [], []]] if again else []
        charged: list[Partition] = []
        for partition, (status, figures, outbox, *found) in swept:
            if figures:
                self._figures.store(partition, figures)
            if status == "swept":
                lists.append(found)
                charged += [partition] * bool(outbox)
        if not lists:
            return None
        owed, unclaimed, queued = (list(chain.from_iterable(parts)) for parts in zip(*lists, strict=True))
        return Overdue(list(dict.fromkeys(owed)), [each for each in unclaimed if each not in again], queued, charged)

    def _found(self, groups: Iterable[PartitionGroup]) -> list[str]:
        """The sessions of `missed` whose Redis answers again. Their turn had come: they are owed a reply."""
        found: list[str] = []
        for missed in filter(None, map(self._missed.get, groups)):
            sessions = set(missed)
            sessions.difference_update(self.check_next(list(sessions)))
            missed.difference_update(sessions)
            found += sessions
        return found

    def _busy(self, partitions: list[Partition], ready: bool) -> list[Partition]:
        """The partitions of one client that need a sweep: those with unanswered messages or charges.

        All do while sessions are `ready` in any, as their sweeps learn that. Of a cluster the first partition is swept
        always, of several Redis each.
        """
        if not partitions[0].tag or ready:
            return partitions
        try:
            with store_errors("ledger"):
                pool = pool_of_key(partitions[0].fail_fast_client, partitions[0].shared.ledger)
                answers = ask_packed(pool, _existence(tuple(partitions)), len(partitions))
        except StoreUnavailable:
            # A master is away: the sweeps of the others succeed.
            return partitions
        found = []
        for partition, answer in zip(partitions, answers, strict=True):
            if answer == 0 and partition is not self._partitions.all[0]:
                self._figures.store_idle(partition)
            else:
                found.append(partition)
        return found

    def check_next(self, sessions: Sequence[str]) -> list[str]:
        """Makes sessions that got no worker due at the next sweep, those first that became ready first.

        Returns those whose Redis failed.
        """
        failed: dict[redis.Redis, list[str]] = {}
        for session in sessions:
            partition = self._partitions.of(session)
            client = partition.fail_fast_client
            if client in failed:
                failed[client].append(session)
                continue
            try:
                with store_errors("ledger"):
                    ready = client.zscore(partition.shared.waiting, session)
                    # Checks that found no worker free say nothing of a task: the later ones come no rarer.
                    client.hdel(partition.keys(session).state, "looks")
                    # Only where the session still is in the ledger.
                    client.zadd(partition.shared.ledger, {session: ready or 0}, xx=True, lt=True)
            except StoreUnavailable:
                failed[client] = [session]
        return list(chain.from_iterable(failed.values()))

    def size(self, group: PartitionGroup | None = None) -> int:
        """The number of sessions with unanswered messages, of one group or of all."""
        partitions = self._partitions.all if group is None else self._partitions.in_group(group)
        with store_errors("ledger"):
            return sum(int(partition.client.zcard(partition.shared.ledger)) for partition in partitions)

    def _call(
        self, partition: Partition, seen: Seen, interval: float
    ) -> tuple[tuple[str, ...], tuple[()], dict[str, Value]]:
        arguments: dict[str, Value] = {
            "limit": SWEEP_SIZE,
            "interval_ms": int(interval * 900),
            "lease_ms": LEASE,
            "grace_ms": GRACE,
            "first_wait_ms": FIRST_WAIT,
            "longest_wait_ms": LONGEST_WAIT,
            "others": seen.others(partition) if self._partitions.several else "",
            "settled": int(self._settled(partition.group)),
        }
        return (*partition.shared, partition.swept), (), arguments


@cache
def _existence(partitions: tuple[Partition, ...]) -> bytes:
    """The commands that ask whether partitions have unanswered messages or charges."""
    packed = b""
    for each in (partition.shared for partition in partitions):
        command: Any = ("EXISTS", each.ledger, each.waiting, each.outbox)
        packed += hiredis.pack_command(command)
    return packed


class Seen:
    """The figures of all partitions at a moment, those of scripts/sweep.lua: sessions that are ready, claims, claims in
    a ms, and ms of queue delay."""

    def __init__(self, figures: dict[Partition, list[float]]) -> None:
        self._figures = figures
        self.sums = [sum(each[index] for each in figures.values()) for index in range(3)]
        self._delays = sorted((each[3] for each in figures.values()), reverse=True)[:2]

    def others(self, partition: Partition) -> str:
        """The figures of all other partitions together, as scripts/_pace.lua reads them."""
        own = self._figures.get(partition)
        if own is None:
            (ready, claims, rate), delay = self.sums, max(self._delays, default=0.0)
        else:
            ready, claims, rate = (max(total - mine, 0.0) for total, mine in zip(self.sums, own, strict=False))
            delay = next(iter(self._delays[self._delays[0] == own[3] :]), 0.0)
        return f"{ready:.0f}:{claims:.6g}:{rate:.6g}:{delay:.0f}"


class Figures:
    """What the sweeps of this process have read of each partition. Safe for many threads."""

    def __init__(self) -> None:
        self._read: dict[Partition, tuple[float, list[float]]] = {}
        self._lock = threading.Lock()

    def store(self, partition: Partition, figures: Sequence[str | int]) -> None:
        """Stores what a sweep has read: see `Seen`."""
        with self._lock:
            self._read[partition] = time.monotonic(), [float(figure) for figure in figures]

    def store_idle(self, partition: Partition) -> None:
        """Notes that no session of the partition has an unanswered message; its pace stays."""
        with self._lock:
            _, (_, claims, rate, _) = self._read.get(partition, (0.0, [0.0] * 4))
            self._read[partition] = time.monotonic(), [0.0, claims, rate, 0.0]

    def any_ready(self) -> bool:
        """Whether sessions were ready in any partition lately: what `seen` says of it, at less cost."""
        since = time.monotonic() - FIGURES_LIFE
        with self._lock:
            return any(figures[0] and at > since for at, figures in self._read.values())

    def seen(self) -> Seen:
        """Those read lately. A partition that failed meanwhile is left out: what waits there is not served meanwhile,
        nor does it take a worker."""
        now = time.monotonic()
        with self._lock:
            return Seen({other: figures for other, (at, figures) in self._read.items() if now - at < FIGURES_LIFE})
