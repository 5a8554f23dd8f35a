"""Celery's Redis transport, as this project needs it.

kombu keeps a record of each task that is not acknowledged yet, so that it comes back. Here the ledger does that, for
every way in which a task can get lost, so that record is turned off (`ack_emulation`): it costs two round trips a
task, and with it a worker whose Redis restarts in the middle of a task dies of an `AttributeError` (kombu 5.7.0: the
acknowledgement, and the restoring at close, go to a channel whose transport has been taken away).
"""

from __future__ import annotations

import logging
import ssl
from typing import Any
from urllib.parse import urlsplit

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.connection import parse_url

from chatbot.store.connections import Connection, SSLConnection
from chatbot.store.sentinel import (
    FollowingPool,
    SentinelAddress,
    SentinelConnection,
    Sentinels,
    SentinelSSLConnection,
    is_sentinel,
    tls_options,
)

logger = logging.getLogger(__name__)


class _QoS(virtual.QoS):
    def restore_unacked(self) -> list[Any]:
        """Tasks that were fetched but not begun go back into the queue, until one cannot: the ledger has the rest.

        kombu would go on for each, which takes a timeout each, and write them to a file.
        """
        self._flush()  # type: ignore[no-untyped-call]
        tasks = list(self._delivered.values())
        self._delivered.clear()
        for done, task in enumerate(tasks):
            try:
                self.channel._restore(task)
            except Exception as error:  # noqa: BLE001 - whatever it is, the ledger has them
                left = len(tasks) - done
                logger.warning("%d tasks did not go back into the queue, the sweep finds them: %s", left, error)
                break
        return []


class _Channel(redis.Channel):
    connection_class: Any = Connection
    connection_class_ssl: Any = SSLConnection
    _sync_client: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.QoS: Any = _QoS

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One client for a pool: kombu makes a new one for each command, which costs more than the command."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        if self._sync_client is None or self._sync_client.connection_pool is not self.pool:
            self._sync_client = super()._create_client()  # type: ignore[no-untyped-call]
        return self._sync_client

    def close(self) -> None:
        """Nothing goes back into the queue when Redis is what was lost."""
        if self.connection is None or self.connection.client is None:
            self.do_restore = False
        super().close()  # type: ignore[no-untyped-call]


class _SentinelChannel(redis.SentinelChannel, _Channel):
    """Takes the Sentinels from a transport option of its own, `sentinels`, and asks them as the store does."""

    from_transport_options: Any = (*redis.SentinelChannel.from_transport_options, "sentinels")
    connection_class: Any = SentinelConnection
    connection_class_ssl: Any = SentinelSSLConnection
    sentinels: Any = ()
    master_name = ""
    sentinel_kwargs: Any = None

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        options = self._connparams(asynchronous)  # type: ignore[no-untyped-call]
        for name in ("host", "port"):
            options.pop(name, None)
        addresses = [(host, port) for host, port in self.sentinels]
        sentinels = Sentinels(addresses, self.sentinel_kwargs or {})
        # Where kombu looks for what is to be closed.
        if asynchronous:
            self._async_sentinel_manager = sentinels
        else:
            self._sentinel_manager = sentinels
        return FollowingPool(self.master_name, sentinels, **options)  # type: ignore[no-untyped-call]


class RedisTransport(redis.Transport):
    """For `redis://` and `rediss://`."""

    Channel = _Channel


class SentinelTransport(redis.SentinelTransport):
    """For `sentinel://`."""

    Channel = _SentinelChannel


def address(url: str) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """What Celery is told for one of our URLs: its own URL, options of the transport, and TLS, None for without.

    Celery masks the password of a URL, and what is called one, where it shows its settings.
    """
    if is_sentinel(url):
        sentinel = SentinelAddress.parse(url)
        host, port = sentinel.sentinels[0]
        login, at, _ = urlsplit(url).netloc.rpartition("@")
        bracketed = f"[{host}]" if ":" in host else host
        return (
            f"sentinel://{login}{at}{bracketed}:{port}/{sentinel.redis_options.get('db', 0)}",
            {
                "sentinels": sentinel.sentinels,
                "master_name": sentinel.service,
                "sentinel_kwargs": sentinel.sentinel_options,
            },
            _verified(sentinel.redis_options) if sentinel.tls else None,
        )
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url, {}, None
    if "ssl_cert_reqs=" not in parts.query:
        # What the URL says, or does not say, goes before the setting.
        required = "ssl_cert_reqs=required"
        url = parts._replace(query=f"{parts.query}&{required}" if parts.query else required).geturl()
    return url, {}, _verified(parse_url(url))


def _verified(options: dict[str, Any]) -> dict[str, Any]:
    """TLS with the broker's certificate checked unless the URL says otherwise, as redis-py has it; kombu does not."""
    chosen = tls_options(options)
    known = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    return {**chosen, "ssl_cert_reqs": known.get(chosen.get("ssl_cert_reqs", "required"), ssl.CERT_REQUIRED)}


def install() -> None:
    """Has `redis://`, `rediss://` and `sentinel://` mean these transports in this process."""
    for scheme, kind in (
        ("redis", RedisTransport),
        ("rediss", RedisTransport),
        ("sentinel", SentinelTransport),
    ):
        TRANSPORT_ALIASES[scheme] = f"{kind.__module__}:{kind.__name__}"
