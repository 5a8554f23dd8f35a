"""The partitions of a Redis Cluster: 128, each with a hash tag, and so in one slot.

The slots of the tags lie evenly over all slots, in the order of the partitions. So masters with as many slots have as
many sessions, and partitions beside each other are at the same master, whatever the number of masters.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache

import redis

from chatbot.store.client import connect
from chatbot.store.cluster.client import ClusterClient
from chatbot.store.cluster.pool import ClusterPool, slot_of
from chatbot.store.cluster.topology import SLOTS, ClusterAddress
from chatbot.store.partitions import BUCKETS, Partition, PartitionGroup, Partitions

logger = logging.getLogger(__name__)

#: Partition groups. A master that fails delays the sessions of its groups.
GROUPS = 8


@cache
def tags() -> tuple[str, ...]:
    """For each partition the first of the numbers 0, 1, 2, … whose slot is in the partition's part of all slots."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < BUCKETS:
        found.setdefault(slot_of(f"{{{number}}}") * BUCKETS // SLOTS, str(number))
        number += 1
    return tuple(found[bucket] for bucket in range(BUCKETS))


class Clients:
    """Clients with common connections: one for each master, as what fails together is sent together."""

    def __init__(self, pool: ClusterPool) -> None:
        self._pool = pool
        self._clients: dict[int, ClusterClient] = {}

    def of(self, slot: int) -> ClusterClient:
        master = self._pool.topology.master_number(slot)
        client = self._clients.get(master)
        return client or self._clients.setdefault(master, ClusterClient(self._pool, (slot,)))


@dataclass(frozen=True, eq=False)
class ClusterPartition(Partition):
    """A partition whose clients change with the owner of its slot."""

    slot: int = field(kw_only=True)
    clients: Clients = field(kw_only=True)
    fail_fast_clients: Clients = field(kw_only=True)

    @property
    def client(self) -> redis.Redis:
        return self.clients.of(self.slot)

    @property
    def fail_fast_client(self) -> redis.Redis:
        return self.fail_fast_clients.of(self.slot)


class ClusterPartitions(Partitions):
    """The table of a cluster. Each partition group is at one master or two."""

    def __init__(self, url: str, max_connections: int) -> None:
        """The clients have at most `max_connections` to each master; they connect when first used."""
        #: The pool that knows the cluster's addresses; a listener never retries by itself.
        self.listening = _pool(connect(url, 1, retries=0))
        pool = _pool(connect(url, max_connections))
        clients = Clients(pool)
        fail_fast_clients = Clients(pool.with_patience(0.0))
        slots = [slot_of(f"{{{tag}}}") for tag in tags()]
        size = BUCKETS // GROUPS
        groups = [
            PartitionGroup(number, ClusterClient(pool, slots[start : start + size]), ClusterClient(self.listening))
            for number, start in enumerate(range(0, BUCKETS, size))
        ]
        partitions = [
            ClusterPartition(
                bucket,
                groups[bucket // size],
                tag,
                slot=slots[bucket],
                clients=clients,
                fail_fast_clients=fail_fast_clients,
            )
            for bucket, tag in enumerate(tags())
        ]
        super().__init__(partitions, partitions)
        self._names = ", ".join(map(str, ClusterAddress.parse(url).nodes))

    def announce(self) -> None:
        """Logs that a cluster has the sessions."""
        logger.info("a Redis Cluster has the sessions: %s", self._names)


def _pool(client: redis.Redis) -> ClusterPool:
    if not isinstance(client, ClusterClient):
        raise TypeError("not a cluster's URL")
    return client.connection_pool
