"""The listeners of a process in a Redis Cluster: one connection to each node, replicas included.

A session's events are published on a sharded channel, which the owner of its slot delivers. The process' own channels
are subscribed at every node: a node counts only its own subscribers, and a replica may become a master at any time.
What is published on them arrives once from each node.

When slots move, the former owner ends the subscriptions; after a failover its connection breaks. They continue at the
new owner, and then the subscribers read from Redis what they may have missed.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial

import redis
from redis.exceptions import MovedError

from chatbot.store.cluster.node_listener import NodeListener
from chatbot.store.cluster.pool import ClusterPool, slot_of
from chatbot.store.cluster.topology import ClusterNode, Topology
from chatbot.store.listener import LISTENER_CONNECTIONS

logger = logging.getLogger(__name__)

#: Seconds between two comparisons of subscriptions and owners, when no change was noticed.
_INTERVAL = 1.0


class ClusterSubscriptions:
    """Subscribes at the owners of the channels' slots. No callback may block."""

    def __init__(
        self,
        pool: ClusterPool,
        on_message: Callable[[str, str], None],
        on_break: Callable[[Callable[[str], bool]], None] = lambda _: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_break(affected)` is called when messages of the channels for which `affected(channel)` is true may have
        been missed, once they are subscribed again. `pool` gives the addresses and options."""
        #: A channel that no other process subscribes to.
        self.own_channel = f"chat:heartbeat:{uuid.uuid4().hex}"
        self._pool = pool
        self._topology: Topology = pool.topology
        self._on_message, self._on_break, self._on_heartbeat = on_message, on_break, on_heartbeat
        # Guards all below.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._listeners: dict[ClusterNode, NodeListener] = {}
        self._everywhere: set[str] = set()
        #: The sharded channels by their slots, and the node at which those of a slot are subscribed.
        self._wanted: dict[int, set[str]] = {}
        self._at: dict[int, ClusterNode] = {}
        self._confirmed: set[str] = set()
        #: Slots whose subscriptions move, each with the channels that are not confirmed yet.
        self._moving: dict[int, set[str]] = {}
        #: Slots whose owner has ended or refused a subscription.
        self._lost: set[int] = set()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = False

    def start(self) -> None:
        """Starts the threads; later calls do nothing."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="listeners", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends the threads, within a second each."""
        with self._lock:
            self._closed = True
            listeners, self._listeners = list(self._listeners.values()), {}
        self._wake.set()
        for listener in listeners:
            listener.close()

    def hears(self, node: ClusterNode) -> bool:
        """Whether the process received its heartbeat from the node lately."""
        listener = self._listeners.get(node)
        return listener is not None and listener.receiving

    def hears_slots(self, *slots: int) -> bool:
        """The same for the owners of these slots."""
        try:
            return all(map(self.hears, self._topology.owners(slots)))
        except redis.ConnectionError:
            return False

    def settled(self, *slots: int) -> bool:
        """Whether the owners of these slots can say which processes live: `Listener.settled`."""
        try:
            found = map(self._listeners.get, self._topology.owners(slots))
            return all(listener is None or listener.settled for listener in found)
        except redis.ConnectionError:
            return False

    def subscribe(self, channel: str, timeout: float) -> bool:
        """Subscribes, and waits up to `timeout` seconds for the confirmation; false when it did not come.

        The listeners go on trying then.
        """
        self.start()
        slot = slot_of(channel)
        with self._changed:
            if channel not in self._wanted.setdefault(slot, set()):
                self._wanted[slot].add(channel)
                node = self._at.get(slot)
                if node in self._listeners:
                    self._listeners[node].add({channel})
                else:
                    self._wake.set()
            return self._changed.wait_for(lambda: channel in self._confirmed, timeout)

    def unsubscribe(self, channel: str) -> None:
        slot = slot_of(channel)
        with self._lock:
            channels = self._wanted.get(slot, set())
            channels.discard(channel)
            self._confirmed.discard(channel)
            self._moving.get(slot, set()).discard(channel)
            node = self._at.get(slot)
            if not channels:
                self._wanted.pop(slot, None)
                self._at.pop(slot, None)
            listener = self._listeners.get(node) if node else None
        if listener is not None:
            listener.remove({channel})

    def subscribe_everywhere(self, channel: str, timeout: float) -> None:
        """Subscribes at all nodes, and waits up to `timeout` seconds in all; the listeners go on trying then."""
        self.start()
        deadline = time.monotonic() + timeout
        with self._lock:
            self._everywhere.add(channel)
            listeners = list(self._listeners.values())
        for listener in listeners:
            listener.subscribe(channel, max(deadline - time.monotonic(), 0))

    def wait_until(self, true: Callable[[], bool], timeout: float) -> bool:
        """Waits up to `timeout` seconds until `true()`, which is called again after each heartbeat."""
        self.start()
        with self._changed:
            return self._changed.wait_for(true, timeout)

    def on_change(self, _: frozenset[ClusterNode]) -> None:
        """The topology has changed."""
        self._wake.set()

    def _run(self) -> None:
        self._topology.follow(self)
        while not self._closed:
            self._wake.clear()
            try:
                self._follow_nodes(self._topology.nodes())
                self._follow_slots()
            except redis.RedisError as error:
                logger.warning("the listeners do not reach the cluster: %s", error)
            except Exception:
                logger.exception("the listeners could not follow the cluster")
            self._wake.wait(_INTERVAL)

    def _follow_nodes(self, nodes: frozenset[ClusterNode]) -> None:
        """Has a listener for each node."""
        with self._lock:
            if self._closed:
                return
            gone = [self._listeners.pop(node) for node in list(self._listeners) if node not in nodes]
            for node in nodes:
                if node not in self._listeners:
                    self._listeners[node] = self._listener(node)
        for listener in gone:
            listener.close()

    def _listener(self, node: ClusterNode) -> NodeListener:
        """The caller holds the lock."""
        listener = NodeListener(
            self._pool.node_client(node, LISTENER_CONNECTIONS),
            self._on_message,
            partial(self._broken, node),
            self._heard,
            self.own_channel,
            partial(self._confirm, node),
            self._lose,
        )
        listener.add(set(self._everywhere))
        return listener

    def _follow_slots(self) -> None:
        """Moves the subscriptions of each slot to its owner."""
        with self._lock:
            for slot, channels in list(self._wanted.items()):
                try:
                    node = self._topology.owner(slot)
                except redis.ConnectionError:
                    # No master has the slot now.
                    continue
                listener, former = self._listeners.get(node), self._at.get(slot)
                if listener is None or (former == node and slot not in self._lost):
                    continue
                if former is not None:
                    self._moving[slot] = set(channels)
                    self._confirmed -= channels
                    if former != node and former in self._listeners:
                        self._listeners[former].remove(channels)
                self._at[slot] = node
                self._lost.discard(slot)
                listener.add(set(channels))

    def _confirm(self, node: ClusterNode, channel: str) -> None:
        slot = slot_of(channel)
        with self._changed:
            if self._at.get(slot) != node or channel not in self._wanted.get(slot, ()):
                return
            self._confirmed.add(channel)
            self._changed.notify_all()
            left = self._moving.get(slot)
            if left is None:
                return
            left.discard(channel)
            if left:
                return
            del self._moving[slot]
        logger.info("the subscriptions of slot %d continue at %s", slot, node)
        self._on_break(lambda name: slot_of(name) == slot)

    def _lose(self, what: str | MovedError) -> None:
        """The owner of a slot has ended a subscription, or refused it."""
        if isinstance(what, MovedError):
            slot = int(what.slot_id)
            self._topology.moved(slot, ClusterNode(what.host, what.port))
        else:
            slot = slot_of(what)
        with self._lock:
            self._lost.add(slot)
        self._wake.set()

    def _broken(self, node: ClusterNode) -> None:
        """The listener of this node had lost its connection, and is subscribed again."""
        with self._lock:
            slots = {slot for slot, at in self._at.items() if at == node}
        self._on_break(lambda name: slot_of(name) in slots)

    def _heard(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._on_heartbeat()
