"""A Redis Cluster: its URLs, and which node has which slot.

`redis+cluster://[user:password@]host1[:6379],host2[:6379],…` names some of the nodes; the others are asked for.
`rediss+cluster://` uses TLS. redis-py's options stand in the query. A cluster has one database, 0.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from chatbot.store.connections import Connection, SSLConnection, ask_packed
from chatbot.store.polling import poll
from chatbot.store.url_parts import host_and_port, redis_options

CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
CLUSTER_PORT = 6379
_FORM = "redis+cluster://host1:6379,host2:6379,host3:6379"
SLOTS = 16384
#: Seconds. A node answers from memory: after this time it counts as down, and the next one is asked.
_ASK_TIMEOUT = 1.0
#: Seconds between two queries for the owners of the slots, at least.
_SHORTEST_INTERVAL = 0.1
#: The queries, which are sent together.
_QUERIES: tuple[Any, ...] = (("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
_PACKED = b"".join(map(hiredis.pack_command, _QUERIES))
#: Not the global generator: threads would draw from it while a program wants to repeat its numbers.
CHANCE = random.Random()


class ClusterNode(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ClusterAddress:
    """The parts of a `redis+cluster://` URL."""

    nodes: tuple[ClusterNode, ...]
    #: User, password, timeouts and TLS, in the form of redis-py's `parse_url`.
    redis_options: dict[str, Any] = field(repr=False)
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> ClusterAddress:
        """Raises `ValueError` with the reason, but without the URL, which may contain a password."""
        if ";" in url:
            raise ValueError(f"separate the nodes by commas: {_FORM}")
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        if parts.path.strip("/") not in ("", "0"):
            raise ValueError("names a database: a cluster has database 0 alone, so end it with the last host")
        tls = parts.scheme == "rediss+cluster"
        options = redis_options(login, tls, "0", parts.query)
        if options.pop("db", 0) != 0:
            raise ValueError("names a database: a cluster has database 0 alone, so leave db out")
        return cls(
            tuple(ClusterNode(*host_and_port(address, CLUSTER_PORT, "a node", _FORM)) for address in hosts.split(",")),
            options,
            tls,
        )

    @property
    def connection_class(self) -> type[Any]:
        return SSLConnection if self.tls else Connection


def is_cluster(url: str) -> bool:
    return urlsplit(url).scheme in CLUSTER_SCHEMES


class Topology:
    """Which node has which slot. All clients of a process with the same URL share one; see `topology`.

    It follows failovers and moves of slots: it asks the nodes every second, at once after an error, and learns from
    redirections. A node that is frozen or unreachable does not close its connections, so those who follow a change do.
    """

    def __init__(self, address: ClusterAddress) -> None:
        self._address = address
        self._discovery = threading.Lock()
        self._askers: dict[ClusterNode, redis.ConnectionPool] = {}
        # Guards all below.
        self._lock = threading.Lock()
        #: The first slot of each range, ascending, and the range's owner.
        self._firsts: list[int] = []
        self._owners: list[ClusterNode | None] = []
        #: Slots that a redirection placed elsewhere since the last query.
        self._moved: dict[int, ClusterNode] = {}
        self._nodes: frozenset[ClusterNode] = frozenset()
        #: The masters' numbers, in the order of their first slots.
        self._numbers: dict[ClusterNode | None, int] = {}
        self._epoch = -1
        self._asked_at = 0.0
        self._followers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._polling = False

    def owner(self, slot: int) -> ClusterNode:
        """The master that has the slot. Raises redis-py's `ConnectionError` when no node says."""
        self._start()
        if not self._firsts:
            self.discover()
        with self._lock:
            found = self._moved.get(slot) or self._owners[bisect_right(self._firsts, slot) - 1]
        if found is None:
            raise redis.ConnectionError(f"no node has slot {slot}")
        return found

    def owners(self, slots: Iterable[int]) -> frozenset[ClusterNode]:
        """The masters that have the slots. Raises redis-py's `ConnectionError` when no node says or a slot has none."""
        self._start()
        if not self._firsts:
            self.discover()
        with self._lock:
            found = {self._moved.get(slot) or self._owners[bisect_right(self._firsts, slot) - 1] for slot in slots}
        if None in found:
            raise redis.ConnectionError("some slots have no node")
        return frozenset(filter(None, found))

    def master_number(self, slot: int) -> int:
        """The number of the slot's owner among all masters, by their slots; 0 while it is unknown. It does not block.

        It stays the same over a failover: the new owner has all slots of the former one.
        """
        with self._lock:
            if not self._firsts:
                return 0
            owner = self._moved.get(slot) or self._owners[bisect_right(self._firsts, slot) - 1]
            return self._numbers.get(owner, 0)

    def masters(self) -> frozenset[ClusterNode]:
        """The nodes that have slots. Raises redis-py's `ConnectionError` when no node says."""
        self._start()
        if not self._firsts:
            self.discover()
        with self._lock:
            return frozenset({*filter(None, self._owners), *self._moved.values()})

    def nodes(self) -> frozenset[ClusterNode]:
        """All masters and replicas that work."""
        masters = self.masters()
        with self._lock:
            return self._nodes | masters

    def moved(self, slot: int, node: ClusterNode) -> None:
        """Notes what a redirection says."""
        with self._lock:
            if self._moved.get(slot) != node:
                self._moved[slot] = node
                self._note_change()

    def follow(self, follower: Any) -> None:
        """Calls `follower.on_change(masters)` after each change, while the follower exists. It must not block."""
        with self._lock:
            self._followers.add(follower)

    def discover(self) -> None:
        """Asks the nodes, one after the other, until one answers. Raises redis-py's `ConnectionError` when none does.

        Does nothing where a query has just ended.
        """
        called = time.monotonic()
        with self._discovery:
            if self._firsts and self._asked_at > min(called, time.monotonic() - _SHORTEST_INTERVAL):
                return
            known = list(self.nodes()) if self._firsts else []
            CHANCE.shuffle(known)
            problem: Exception | None = None
            for node in dict.fromkeys((*known, *self._address.nodes)):
                try:
                    if self._learn(*self._ask(node), node):
                        return
                except redis.AuthenticationError:
                    raise
                except (redis.RedisError, OSError) as error:
                    problem = error
            if problem is not None or not self._firsts:
                raise redis.ConnectionError(f"no node of the cluster answers: {problem}")
            # All nodes know less than one did before: the cluster was set up anew.
            self._epoch = -1

    def _ask(self, node: ClusterNode) -> tuple[int, list[Any]]:
        """The node's epoch, and its answer to CLUSTER SLOTS."""
        if node not in self._askers:
            self._askers[node] = redis.ConnectionPool(
                connection_class=self._address.connection_class,
                host=node.host,
                port=node.port,
                **{**self._address.redis_options, "socket_timeout": _ASK_TIMEOUT},
                socket_connect_timeout=_ASK_TIMEOUT,
                decode_responses=True,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        info, ranges = answers = ask_packed(self._askers[node], _PACKED, len(_QUERIES))
        for answer in answers:
            if isinstance(answer, redis.RedisError):
                raise answer
        epoch = next((line for line in info.splitlines() if line.startswith("cluster_current_epoch:")), ":0")
        return int(epoch.partition(":")[2]), ranges

    def _learn(self, epoch: int, ranges: list[Any], asked: ClusterNode) -> bool:
        """Takes over an answer; false when the node knows less than one asked before, or of no slot."""
        nodes: frozenset[ClusterNode] = frozenset()
        firsts, owners = [0], list[ClusterNode | None]([None])
        for first, last, *servers in sorted(ranges):
            named = [ClusterNode(server[0] or asked.host, int(server[1])) for server in servers]
            nodes |= frozenset(named)
            if firsts[-1] == first:
                firsts.pop()
                owners.pop()
            firsts += [first, last + 1]
            owners += [named[0], None]
        with self._lock:
            if epoch < self._epoch or not nodes:
                return False
            self._epoch, self._asked_at = epoch, time.monotonic()
            if (firsts, owners, nodes) != (self._firsts, self._owners, self._nodes) or self._moved:
                self._firsts, self._owners, self._nodes = firsts, owners, nodes
                self._moved.clear()
                self._numbers = {owner: number for number, owner in enumerate(dict.fromkeys(filter(None, owners)))}
                self._note_change()
        return True

    def _note_change(self) -> None:
        """The caller holds the lock."""
        masters = frozenset({*filter(None, self._owners), *self._moved.values()})
        for follower in list(self._followers):
            follower.on_change(masters)

    def _start(self) -> None:
        if not self._polling:
            with self._lock:
                start, self._polling = not self._polling, True
            if start:
                poll(self, Topology.discover, "cluster")


#: By process id and address.
_topologies: weakref.WeakValueDictionary[tuple[Any, ...], Topology] = weakref.WeakValueDictionary()
_topologies_lock = threading.Lock()


def topology(address: ClusterAddress) -> Topology:
    """The one that all clients of this process with this address share; it does not connect yet."""
    with _topologies_lock:
        options = tuple(sorted((name, str(value)) for name, value in address.redis_options.items()))
        key = (os.getpid(), address.nodes, options, address.tls)
        return _topologies.setdefault(key, Topology(address))
