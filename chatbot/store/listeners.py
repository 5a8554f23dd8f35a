"""The listeners of a process, one for each partition group.

All subscribe to one channel of the process's own, so that each Redis can say whether the process lives.
"""

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
from chatbot.store.partitions import Partition, PartitionGroup, Partitions

#: Whether a channel is affected.
Affected = Callable[[str], bool]


class Listeners:
    """Subscribes at the Redis of a session's partition. The callbacks are those of `Listener`; none may block."""

    def __init__(
        self,
        partitions: Partitions,
        on_message: Callable[[str, str], None],
        on_break: Callable[[Affected], None] = lambda _: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_break(affected)` is called when messages of the channels for which `affected(channel)` is true may have
        been missed; `on_heartbeat()` for each heartbeat, while heartbeats of all groups arrive."""
        #: A channel that no other process subscribes to.
        self.own_channel = f"chat:heartbeat:{uuid.uuid4().hex}"
        self._on_break = on_break
        self._on_heartbeat = on_heartbeat
        self._listeners = {
            group: Listener(group.listening, on_message, partial(self._broken, group), self._heard, self.own_channel)
            for group in partitions.groups
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
        """`own_channel` while heartbeats from the partition's Redis arrive, else ''."""
        return self._listeners[partition.group].channel

    def hears(self, group: PartitionGroup) -> bool:
        """Whether the process received its heartbeat from the group's Redis lately."""
        return self._listeners[group].receiving

    def settled(self, group: PartitionGroup) -> bool:
        """Whether the group's Redis can say which processes live: `Listener.settled`."""
        return self._listeners[group].settled

    @property
    def receiving(self) -> bool:
        """Whether the heartbeats of all groups arrive."""
        return all(listener.receiving for listener in self._listeners.values())

    def subscribe(self, partition: Partition, channel: str, timeout: float) -> bool:
        """Subscribes at the partition's Redis, as `Listener.subscribe` does."""
        return self._listeners[partition.group].subscribe(channel, timeout)

    def unsubscribe(self, partition: Partition, channel: str) -> None:
        self._listeners[partition.group].unsubscribe(channel)

    def subscribe_everywhere(self, channel: str, timeout: float) -> None:
        """Subscribes in all groups, and waits up to `timeout` seconds in all; the listeners go on trying then."""
        deadline = time.monotonic() + timeout
        for listener in self._listeners.values():
            listener.subscribe(channel, max(deadline - time.monotonic(), 0))

    def wait_until_receiving(self, timeout: float, group: PartitionGroup | None = None) -> bool:
        """Waits up to `timeout` seconds for the first heartbeat of one group, or of all; whether it came."""
        deadline = time.monotonic() + timeout
        listeners = self._listeners.values() if group is None else [self._listeners[group]]
        for each in listeners:
            each.start()
        return all(each.wait_until_receiving(max(deadline - time.monotonic(), 0)) for each in listeners)

    def _broken(self, group: PartitionGroup) -> None:
        self._on_break(self._listeners[group].wants)

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
            group: [slot_of(partition.shared.ledger) for partition in partitions.in_group(group)]
            for group in partitions.groups
        }
        self._on_heartbeat = on_heartbeat
        self._subscriptions = ClusterSubscriptions(partitions.listening, on_message, on_break, self._heard)
        self.own_channel = self._subscriptions.own_channel
        self.start, self.close = self._subscriptions.start, self._subscriptions.close
        self.subscribe_everywhere = self._subscriptions.subscribe_everywhere

    def channel(self, partition: Partition) -> str:
        return self.own_channel if self._subscriptions.hears_slots(slot_of(partition.shared.ledger)) else ""

    def hears(self, group: PartitionGroup) -> bool:
        return self._subscriptions.hears_slots(*self._slots[group])

    def settled(self, group: PartitionGroup) -> bool:
        return self._subscriptions.settled(*self._slots[group])

    @property
    def receiving(self) -> bool:
        return self._subscriptions.hears_slots(*chain.from_iterable(self._slots.values()))

    def subscribe(self, partition: Partition, channel: str, timeout: float) -> bool:
        return self._subscriptions.subscribe(channel, timeout)

    def unsubscribe(self, partition: Partition, channel: str) -> None:
        self._subscriptions.unsubscribe(channel)

    def wait_until_receiving(self, timeout: float, group: PartitionGroup | None = None) -> bool:
        return self._subscriptions.wait_until(lambda: self.receiving if group is None else self.hears(group), timeout)

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
