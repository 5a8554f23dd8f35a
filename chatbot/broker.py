"""Celery's Redis transport, as this project needs it.

kombu keeps a record of each task that is not acknowledged yet, so that it comes back. Here the ledger does that, for
every way in which a task can get lost, so that record is turned off (`ack_emulation`): it costs two round trips a
task, and with it a worker whose Redis restarts in the middle of a task dies of an `AttributeError` (kombu 5.7.0: the
acknowledgement, and the restoring at close, go to a channel whose transport has been taken away).
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class _Channel(redis.Channel):
    _sync_client: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One client for a pool: kombu makes a new one for each command, which costs more than the command."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        if self._sync_client is None or self._sync_client.connection_pool is not self.pool:
            self._sync_client = super()._create_client()  # type: ignore[no-untyped-call]
        return self._sync_client

    def close(self) -> None:
        """Tasks that were fetched but not begun go back into the queue, unless Redis is what was lost."""
        if self.connection is None or self.connection.client is None:
            self.do_restore = False
        super().close()  # type: ignore[no-untyped-call]


class _SentinelChannel(redis.SentinelChannel, _Channel):
    pass


class RedisTransport(redis.Transport):
    """For `redis://` and `rediss://`."""

    Channel = _Channel


class SentinelTransport(redis.SentinelTransport):
    """For `sentinel://`."""

    Channel = _SentinelChannel


def install() -> None:
    """Has `redis://`, `rediss://` and `sentinel://` mean these transports in this process."""
    for scheme, kind in (
        ("redis", RedisTransport),
        ("rediss", RedisTransport),
        ("sentinel", SentinelTransport),
    ):
        TRANSPORT_ALIASES[scheme] = f"{kind.__module__}:{kind.__name__}"
