"""Celery's Redis transport, adapted to this project.

kombu records each task until it is acknowledged, to deliver it again. Here the ledger does that, however a task gets
lost, so the record is turned off (`ack_emulation`). It costs two round trips a task, and in kombu 5.7.0 a worker whose
Redis restarts during a task ends with an `AttributeError`: the acknowledgement uses a channel that has lost its
transport.

kombu ends the worker over an element of a queue that is not a message. Here such an element is dropped.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.connection import UnixDomainSocketConnection

from chatbot.queue.redis_broker import CLUSTER_PREFIX
from chatbot.queue.task_messages import is_json, is_message, parsed
from chatbot.store.cluster.connection import SlotConnection, SlotSSLConnection
from chatbot.store.cluster.topology import ClusterAddress, ClusterNode
from chatbot.store.connections import Connection, FollowsMaster, PollsSocket, SSLConnection
from chatbot.store.sentinel import (
    MasterPool,
    SentinelConnection,
    Sentinels,
    SentinelSSLConnection,
    tls_options,
)

logger = logging.getLogger(__name__)

#: Tasks that threads may acknowledge at the same time, where a worker has few slots.
_FEW = 16


class _QoS(virtual.QoS):
    def restore_unacked(self) -> list[Any]:
        """Puts tasks that were fetched but not started back into the queue, until one fails: the ledger has the rest.

        kombu would try all, with a timeout for each, and write them to a file.
        """
        self._flush()  # type: ignore[no-untyped-call]
        tasks = list(self._delivered.values())
        self._delivered.clear()
        for done, task in enumerate(tasks):
            try:
                self.channel._restore(task)
            except Exception as error:  # noqa: BLE001 - after any error the ledger has them
                left = len(tasks) - done
                logger.warning("tasks that the sweep must enqueue, as they did not return: %d: %s", left, error)
                break
        return []


class RedisChannel(redis.Channel):
    """Records no unacknowledged tasks in Redis: an acknowledgement marks a task in this process, from any thread.

    Takes TLS options from the transport option `tls`: of those in a URL kombu reads some, and others as text."""

    from_transport_options: Any = (*redis.Channel.from_transport_options, "tls")
    connection_class: Any = Connection
    connection_class_ssl: Any = SSLConnection
    tls: Any = None
    _sync_client: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.QoS: Any = _QoS

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        options: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        options.update(self.tls or {})
        kind = options["connection_class"]
        if issubclass(kind, UnixDomainSocketConnection):
            # For a socket kombu uses a class of redis-py's own.
            options["connection_class"] = type("UnixConnection", (PollsSocket, FollowsMaster, kind), {})
        return options

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One client a pool: kombu makes one for each command, which costs more than the command."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        if self._sync_client is None or self._sync_client.connection_pool is not self.pool:
            self._sync_client = super()._create_client()  # type: ignore[no-untyped-call]
        return self._sync_client

    def _brpop_read(self, **options: Any) -> bool:
        """Delivers what BRPOP returned; kombu would parse it a second time, and end the worker if it is not JSON."""
        try:
            connection = self.client.connection
            try:
                response = self.client.parse_response(connection, "BRPOP", **options)
            except self.connection_errors:
                # The next iteration of the event loop reconnects.
                connection.disconnect()
                raise
            if not response:
                raise Empty
            queue = response[0].decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            try:
                message = parsed(response[1])
            except ValueError:
                logger.warning("dropped an element of a queue: it is not JSON")
                raise Empty from None
            self.connection._deliver(message, queue)
            return True
        finally:
            self._in_poll: Any = None
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]

    def may_wait_for_slots(self) -> bool:
        """Whether the event loop may have stopped fetching. Other threads may acknowledge tasks at the same time."""
        most, qos = self.qos.prefetch_count, self.qos
        return bool(most and 2 * (len(qos._delivered) - len(qos._dirty) + _FEW) >= most)

    def _handle_message(self, *args: Any) -> Any:
        """Takes the data from a published message that kombu could not parse."""
        payload = super()._handle_message(*args)  # type: ignore[no-untyped-call]
        if isinstance(payload["data"], (bytes, str)) and payload["data"] and not is_json(payload["data"]):
            logger.warning("dropped a published message that is not JSON")
            payload["data"] = None
        return payload

    def close(self) -> None:
        """Puts no tasks back when the connection to Redis is lost."""
        if self.connection is None or self.connection.client is None:
            self.do_restore = False
        super().close()  # type: ignore[no-untyped-call]


class SentinelChannel(redis.SentinelChannel, RedisChannel):
    """Takes the Sentinels from the transport option `sentinels`, and uses the classes of the store."""

    from_transport_options: Any = (*redis.SentinelChannel.from_transport_options, "sentinels")
    connection_class: Any = SentinelConnection
    connection_class_ssl: Any = SentinelSSLConnection
    sentinels: Any = ()
    master_name = ""
    sentinel_kwargs: Any = None

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        options = self._connparams(asynchronous)
        for name in ("host", "port"):
            options.pop(name, None)
        addresses = [(host, port) for host, port in self.sentinels]
        sentinels = Sentinels(addresses, self.sentinel_kwargs or {})
        # kombu closes what these attributes hold.
        if asynchronous:
            self._async_sentinel_manager = sentinels
        else:
            self._sentinel_manager = sentinels
        return MasterPool(self.master_name, sentinels, **options)  # type: ignore[no-untyped-call]


class _ClusterChannel(RedisChannel):
    """Takes nodes of the cluster from the transport option `nodes`, and connects to the one with the queue's slot."""

    from_transport_options: Any = (*RedisChannel.from_transport_options, "nodes")
    connection_class: Any = SlotConnection
    connection_class_ssl: Any = SlotSSLConnection
    nodes: Any = ()

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        options = super()._connparams(asynchronous)
        named = ("username", "password", *tls_options(options))
        own = {name: options[name] for name in named if options.get(name) is not None}
        tls = issubclass(options["connection_class"], SlotSSLConnection)
        address = ClusterAddress(tuple(ClusterNode(host, port) for host, port in self.nodes), own, tls)
        return {**options, "cluster": address, "key": CLUSTER_PREFIX}


class _ChecksMessages:
    """A mixin: a transport that drops what is not a message, and costs an event loop less."""

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Adds sockets to the event loop once: kombu does that in each iteration, with two system calls each time."""
        before = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)  # type: ignore[misc]
        (added,) = set(loop.on_tick) - before
        cycle, readers = self.cycle, loop.readers  # type: ignore[attr-defined]

        def on_tick() -> None:
            cycle.on_poll_start()
            for fd in cycle.fds:
                if fd not in readers:
                    loop.add_reader(fd, self.on_readable, fd)  # type: ignore[attr-defined]

        loop.on_tick.remove(added)
        loop.on_tick.add(on_tick)

    def _deliver(self, message: Any, queue: str) -> None:
        if is_message(message):
            super()._deliver(message, queue)  # type: ignore[misc]
        else:
            logger.warning("dropped an element of a queue: it is not a message of this project")


class RedisTransport(_ChecksMessages, redis.Transport):
    """For `redis://` and `rediss://`."""

    Channel = RedisChannel


class SentinelTransport(_ChecksMessages, redis.SentinelTransport):
    """For `sentinel://`."""

    Channel = SentinelChannel


class ClusterTransport(_ChecksMessages, redis.Transport):
    """For `redis+cluster://`, as `cluster://`."""

    Channel = _ClusterChannel


def install() -> None:
    """Registers these transports in this process: `redis://` also stands for `redis+socket://`."""
    for scheme, kind in (
        ("redis", RedisTransport),
        ("rediss", RedisTransport),
        ("sentinel", SentinelTransport),
        ("cluster", ClusterTransport),
    ):
        TRANSPORT_ALIASES[scheme] = f"{kind.__module__}:{kind.__name__}"
