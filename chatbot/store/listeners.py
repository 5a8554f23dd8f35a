"""The listeners of a process: one for each node, with one channel of the process's own, so that each node can say
whether the process lives."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from itertools import chain

from chatbot.store.cluster.pool import slot_of
from chatbot.store.cluster.subscriptions import ClusterSubscriptions
from chatbot.store.cluster_partitions import ClusterPartitions
from chatbot.store.listener import Listener
from chatbot.store.partitions import Node, Partition, Partitions

#: Whether a channel is affected.
Affected = Callable[[str], bool]


class Listeners:
    """Subscribes at the node of a session's partition. The callbacks are those of `Listener`; none may block."""

    def __init__(
        self,
        partitions: Partitions,
        on_message: Callable[[str, str], None],
        on_break: Callable[[Affected], None] = lambda _: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_break(affected)` is called when messages of the channels for which `affected(channel)` is true may have
        been missed; `on_heartbeat()` for each heartbeat, while all nodes are heard."""
        #: A channel that no other process subscribes to.
        self.own_channel = f"chat:heartbeat:{uuid.uuid4().hex}"
        self._on_break = on_break
        self._on_heartbeat = on_heartbeat
        self._listeners = {
            node: Listener(node.listening, on_message, partial(self._broken, node), self._heard, self.own_channel)
            for node in partitions.nodes
        }

    def start(self) -> None:
        """Starts the threads; later calls do nothing."""
        for listener in self._listeners.values():
            listener.start()

    def close(self) -> None:
        """Ends the threads, within a second each."""
        for listener in self._listeners.values():
            listener.close()

    def channel(self, partition: Partition) -> str:
        """`own_channel` while the process hears the partition's node, else ''."""
        return self._listeners[partition.node].channel

    def hears(self, node: Node) -> bool:
        """Whether the process received its heartbeat from the node lately."""
        return self._listeners[node].receiving

    @property
    def receiving(self) -> bool:
        """Whether the process hears all nodes."""
        return all(listener.receiving for listener in self._listeners.values())

    def subscribe(self, partition: Partition, channel: str, timeout: float) -> bool:
        """Subscribes at the partition's node, as `Listener.subscribe` does."""
        return self._listeners[partition.node].subscribe(channel, timeout)

    def unsubscribe(self, partition: Partition, channel: str) -> None:
        self._listeners[partition.node].unsubscribe(channel)

    def subscribe_everywhere(self, channel: str, timeout: float) -> None:
        """Subscribes at all nodes, and waits up to `timeout` seconds in all; the listeners go on trying then."""
        deadline = time.monotonic() + timeout
        for listener in self._listeners.values():
            listener.subscribe(channel, max(deadline - time.monotonic(), 0))

    def wait_until_receiving(self, timeout: float, node: Node | None = None) -> bool:
        """Waits up to `timeout` seconds for the first heartbeat of one node, or of all; whether it came."""
        deadline = time.monotonic() + timeout
        listeners = self._listeners.values() if node is None else [self._listeners[node]]
        for each in listeners:
            each.start()
        return all(each.wait_until_receiving(max(deadline - time.monotonic(), 0)) for each in listeners)

    def _broken(self, node: Node) -> None:
        self._on_break(self._listeners[node].wants)

    def _heard(self) -> None:
        if self.receiving:
            self._on_heartbeat()


class ClusterListeners:
    """The same for a Redis Cluster, with a listener for each of its nodes."""

    def __init__(
        self,
        partitions: ClusterPartitions,
        on_message: Callable[[str, str], None],
        on_break: Callable[[Affected], None] = lambda _: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """See `Listeners`."""
        self._slots = {
            node: [slot_of(partition.shared.ledger) for partition in partitions.of_node(node)]
            for node in partitions.nodes
        }
        self._on_heartbeat = on_heartbeat
        self._subscriptions = ClusterSubscriptions(partitions.listening, on_message, on_break, self._heard)
        self.own_channel = self._subscriptions.own_channel
        self.start, self.close = self._subscriptions.start, self._subscriptions.close
        self.subscribe_everywhere = self._subscriptions.subscribe_everywhere

    def channel(self, partition: Partition) -> str:
        return self.own_channel if self._subscriptions.hears_slots(slot_of(partition.shared.ledger)) else ""

    def hears(self, node: Node) -> bool:
        return self._subscriptions.hears_slots(*self._slots[node])

    @property
    def receiving(self) -> bool:
        return self._subscriptions.hears_slots(*chain.from_iterable(self._slots.values()))

    def subscribe(self, partition: Partition, channel: str, timeout: float) -> bool:
        return self._subscriptions.subscribe(channel, timeout)

    def unsubscribe(self, partition: Partition, channel: str) -> None:
        self._subscriptions.unsubscribe(channel)

    def wait_until_receiving(self, timeout: float, node: Node | None = None) -> bool:
        return self._subscriptions.wait_until(lambda: self.receiving if node is None else self.hears(node), timeout)

    def _heard(self) -> None:
        if self.receiving:
            self._on_heartbeat()


def open_listeners(
    partitions: Partitions,
    on_message: Callable[[str, str], None],
    on_break: Callable[[Affected], None] = lambda _: None,
    on_heartbeat: Callable[[], None] = lambda: None,
) -> Listeners | ClusterListeners:
    """The listeners for these partitions. For the callbacks see `Listeners`."""
    if isinstance(partitions, ClusterPartitions):
        return ClusterListeners(partitions, on_message, on_break, on_heartbeat)
    return Listeners(partitions, on_message, on_break, on_heartbeat)
