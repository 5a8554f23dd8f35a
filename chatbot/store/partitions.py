"""Partitions of the store: which Redis holds a session, under which names.

The sessions of a partition share a ledger, a line of ready sessions, the workers' pace and an outbox of charges. A step
on a session touches keys of its partition alone, so partitions may be on different machines. Three kinds of table:

- one Redis: one partition, without a tag in its names;
- several Redis or services of Sentinel: one partition each, with the same names;
- a Redis Cluster: many partitions, each with a hash tag in all of its names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol
from zlib import crc32

import redis

from chatbot.store.keys import (
    LINE,
    SWEPT,
    SessionKeys,
    SharedKeys,
    events_channel,
    session_keys,
    session_prefix,
    shared_keys,
    tagged,
)

logger = logging.getLogger(__name__)

#: Sessions and addresses are spread over so many buckets, and these over the partitions.
BUCKETS = 128


class Target(Protocol):
    """Where a script runs: a group or a partition. A client is read for each attempt, as it may change."""

    @property
    def client(self) -> redis.Redis: ...

    @property
    def fail_fast_client(self) -> redis.Redis:
        """The client for steps that are tried again anyway: it waits for no failover, as other work waits for it."""


@dataclass(frozen=True, eq=False)
class PartitionGroup:
    """The partitions of one Redis, or of one service of Sentinel; of a Redis Cluster, an eighth of all partitions.

    A group fails alone: each has connections, a listener and threads of its own.
    """

    number: int
    client: redis.Redis
    #: The client of a listener, which never retries by itself.
    listening: redis.Redis
    #: Host, port and database, for the log.
    name: str = ""

    @property
    def fail_fast_client(self) -> redis.Redis:
        return self.client


class FailFast(NamedTuple):
    """A target whose steps do not wait for a failover."""

    client: redis.Redis

    @property
    def fail_fast_client(self) -> redis.Redis:
        return self.client


@dataclass(frozen=True, eq=False)
class Partition:
    """The sessions that share one ledger, and the names of their keys."""

    number: int
    group: PartitionGroup
    #: The hash tag of all names; '' without one.
    tag: str = ""

    @property
    def client(self) -> redis.Redis:
        """The client to send a step on this partition to."""
        return self.group.client

    @property
    def fail_fast_client(self) -> redis.Redis:
        """See `Target`."""
        return self.group.fail_fast_client

    @property
    def fail_fast(self) -> Target:
        """The same partition, for steps that do not wait for a failover."""
        return FailFast(self.fail_fast_client)

    @cached_property
    def shared(self) -> SharedKeys:
        return shared_keys(self.tag)

    @cached_property
    def swept(self) -> str:
        return tagged(SWEPT, self.tag)

    def keys(self, session: str) -> SessionKeys:
        """The keys of a session of this partition, its own and the shared ones."""
        return session_keys(session, self.tag)

    def own_key(self, session: str, name: str) -> str:
        """A further key of a session's own."""
        return session_prefix(session, self.tag) + name

    def events(self, session: str) -> str:
        """The channel of a session's events. With a tag it is a sharded one."""
        return events_channel(session, self.tag)

    @property
    def publish(self) -> str:
        """The command that publishes on the channel of a session's events, as scripts do."""
        return "SPUBLISH" if self.tag else "PUBLISH"

    def line(self, address: str) -> str:
        """The key with the ready sessions of an address of this partition."""
        return self.of_address(f"{LINE}{address}")

    def of_address(self, name: str) -> str:
        """The name of a key about an address, which begins with `chat:`, as this partition has it."""
        return tagged(name, self.tag)


class Partitions:
    """The table of all partitions. It never changes while a process runs; what a group's client reaches may."""

    def __init__(self, all_: Sequence[Partition], buckets: Sequence[Partition] = ()) -> None:
        """`buckets` says for each of `BUCKETS` buckets which partition has it; all are the first one's unless given."""
        self.all = tuple(all_)
        self._buckets = tuple(buckets) or self.all[:1] * BUCKETS
        #: The groups, in the order of their numbers.
        self.groups = tuple({partition.group.number: partition.group for partition in self.all}.values())
        #: Whether sessions may be in different partitions.
        self.several = len(self.all) > 1

    @classmethod
    def single(cls, client: redis.Redis, listening: redis.Redis | None = None) -> Partitions:
        """One Redis with one partition."""
        return cls([Partition(0, PartitionGroup(0, client, listening or client))])

    @property
    def home(self) -> Target:
        """Where that is which belongs to no session: API keys and their usage, workers' liveness, sums of metrics."""
        return self.groups[0]

    def of(self, session: str) -> Partition:
        """The partition of a session."""
        return self._buckets[crc32(session.encode()) % BUCKETS] if self.several else self.all[0]

    def of_address(self, address: str) -> Partition:
        """The partition with the line and the rates of an address."""
        return self.of(address)

    def in_group(self, group: PartitionGroup) -> list[Partition]:
        """The partitions of a group: what concerns them all needs one round trip."""
        return [partition for partition in self.all if partition.group is group]

    @staticmethod
    def by_client(partitions: Iterable[Partition]) -> list[list[int]]:
        """The indexes of the given partitions, grouped by their present client: what one round trip can do."""
        found: dict[int, list[int]] = {}
        for index, partition in enumerate(partitions):
            found.setdefault(id(partition.client), []).append(index)
        return list(found.values())

    def announce(self) -> None:
        """Logs which Redis share the sessions, if there are several."""
        if len(self.groups) > 1 and self.groups[0].name:
            names = ", ".join(group.name for group in self.groups)
            logger.info("%d Redis share the sessions: %s", len(self.groups), names)

    def disconnect(self) -> None:
        """Closes all connections."""
        for group in self.groups:
            group.client.connection_pool.disconnect()
            group.listening.connection_pool.disconnect()


#: What the parts of the program take: the table, or the client of the only Redis.
Store = redis.Redis | Partitions


def partitions_of(store: Store) -> Partitions:
    """The table itself, or that of one Redis."""
    return store if isinstance(store, Partitions) else Partitions.single(store)
