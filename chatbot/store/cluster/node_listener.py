"""The listener of one node of a Redis Cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import MovedError

from chatbot.store.cluster.pool import slot_of
from chatbot.store.listener import Listener


class NodeListener(Listener):
    """The listener of one node. Channels with a hash tag are sharded."""

    def __init__(
        self,
        client: redis.Redis,
        on_message: Callable[[str, str], None],
        on_break: Callable[[], None],
        on_heartbeat: Callable[[], None],
        own_channel: str,
        on_confirmed: Callable[[str], None],
        on_lost: Callable[[str | MovedError], None],
    ) -> None:
        """`on_confirmed(channel)` is called for each subscription; `on_lost` when the node ends one, or refuses it."""
        super().__init__(client, on_message, on_break, on_heartbeat, own_channel)
        self._on_confirmed = on_confirmed
        self._on_lost = on_lost

    def add(self, channels: set[str]) -> None:
        """Subscribes without waiting."""
        self.start()
        with self._lock:
            self._wanted |= channels
            self._send(list(channels), subscribe=True)

    def remove(self, channels: set[str]) -> None:
        with self._lock:
            self._wanted -= channels
            self._confirmed -= channels
            self._send(list(channels), subscribe=False)

    def _write(self, pubsub: redis.client.PubSub, channels: list[str], *, subscribe: bool) -> None:
        super()._write(pubsub, [channel for channel in channels if "{" not in channel], subscribe=subscribe)
        of_slot: dict[int, list[str]] = {}
        for channel in channels:
            if "{" in channel:
                of_slot.setdefault(slot_of(channel), []).append(channel)
        for group in of_slot.values():
            self._write_sharded(pubsub, group, subscribe)

    def _write_sharded(self, pubsub: Any, channels: list[str], subscribe: bool) -> None:
        """A command names channels of one slot."""
        for part in self._batches(channels):
            (pubsub.ssubscribe if subscribe else pubsub.sunsubscribe)(*part)

    def _handle(self, kind: str, channel: str, data: str) -> None:
        if kind == "smessage":
            super()._handle("message", channel, data)
        elif kind == "ssubscribe":
            super()._handle("subscribe", channel, data)
            self._on_confirmed(channel)
        elif kind == "sunsubscribe" and channel in self._wanted:
            self._on_lost(channel)
        else:
            super()._handle(kind, channel, data)

    def _refused(self, error: redis.ResponseError) -> None:
        if not isinstance(error, MovedError):
            raise error
        self._on_lost(error)
