"""Connections to the node of a Redis Cluster that has a slot, for a library that knows one Redis."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import redis
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from chatbot.store.cluster.pool import slot_of
from chatbot.store.cluster.topology import ClusterAddress, ClusterNode, topology
from chatbot.store.connections import Connection, SSLConnection


class _FollowsSlot:
    """A mixin: each time it connects, it connects to the node that has the slot of `key` then.

    It closes, with a `ConnectionError`, when the node answers that the slot is elsewhere, and when it no longer is a
    master.
    """

    _sock: Any
    host: str
    port: int

    def __init__(self, *args: Any, cluster: ClusterAddress, key: str, **options: Any) -> None:
        self._topology = topology(cluster)
        self._slot = slot_of(key)
        super().__init__(*args, **options)
        self._topology.follow(self)

    def connect(self) -> None:
        if self._sock is None:
            with contextlib.suppress(redis.ConnectionError):
                self._topology.discover()
            self.host, self.port = self._topology.owner(self._slot)
        super().connect()  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except (AskError, TryAgainError, ClusterDownError) as error:
            if isinstance(error, MovedError):
                self._topology.moved(error.slot_id, ClusterNode(error.host, error.port))
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError(f"this node does not have the slot: {error}") from error

    def on_change(self, masters: frozenset[ClusterNode]) -> None:
        sock = self._sock
        if sock is not None and (self.host, self.port) not in masters:
            # The thread that uses the connection gets an error, and closes it.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class SlotConnection(_FollowsSlot, Connection):
    pass


class SlotSSLConnection(_FollowsSlot, SSLConnection):
    pass
