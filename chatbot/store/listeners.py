"""The listeners of a process: one for each node, with one channel of the process's own, so that each node can say
whether the process lives."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial

from chatbot.store.listener import Listener
from chatbot.store.partitions import Node, Partition, Partitions


class Listeners:
    """Subscribes at the node of a session's partition. The callbacks are those of `Listener`; none may block."""

    def __init__(
        self,
        partitions: Partitions,
        on_message: Callable[[str, str], None],
        on_break: Callable[[Node], None] = lambda _: None,
        on_heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_break(node)` is called after messages of that node may have been missed; `on_heartbeat()` for each
        heartbeat, while all nodes are heard."""
        #: A channel that no other process subscribes to.
        self.own_channel = f"chat:heartbeat:{uuid.uuid4().hex}"
        self._on_heartbeat = on_heartbeat
        self._listeners = {
            node: Listener(node.listening, on_message, partial(on_break, node), self._heard, self.own_channel)
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

    def _heard(self) -> None:
        if self.receiving:
            self._on_heartbeat()
