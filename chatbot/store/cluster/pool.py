"""The connections of a client of a Redis Cluster: a bounded pool for each node, and the attempts that follow slots."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, AuthenticationError, ClusterDownError, MovedError, ResponseError, TryAgainError
from redis.retry import Retry

from chatbot.store.cluster.topology import CHANCE, ClusterAddress, ClusterNode, topology

_Answer = TypeVar("_Answer")

#: Seconds that a command waits for a failover or the move of its slot. At a node timeout of 2 s a failover takes 3.5 to
#: 4.5 s; a slot of 10 000 keys moves in about a second.
PATIENCE = 6.0
#: Seconds between two attempts: at first, and at most.
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 0.25
#: Redirections that are followed at once.
_REDIRECTIONS = 3
#: What a script gets that uses a key which it did not name while the slot moves.
_NON_LOCAL = "non local key"
#: Commands without a key, which any master carries out.
_ANYWHERE = frozenset({"PING", "TIME", "INFO", "PUBLISH", "PUBSUB", "SCRIPT", "CLIENT", "WAIT"})
#: Commands whose key stands behind a second word.
_TWO_WORDS = frozenset({"JSON.DEBUG", "OBJECT", "MEMORY"})
_SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})


def slot_of(key: str) -> int:
    """The slot of a key or of a sharded channel."""
    return int(key_slot(key.encode()))


def slot_of_command(arguments: Sequence[Any], otherwise: Sequence[int] = ()) -> int | None:
    """The slot of a command's first key. Without a key it is the first of `otherwise`, or None."""
    slot = _slot_of_key(arguments)
    return otherwise[0] if slot is None and otherwise else slot


def _slot_of_key(arguments: Sequence[Any]) -> int | None:
    # redis-py has some commands of two words as one argument.
    words = str(arguments[0]).upper().split(" ")
    if words[0] in _ANYWHERE:
        return None
    if words[0] in _SCRIPTS:
        return slot_of(str(arguments[3])) if int(arguments[2]) else None
    if words[0] == "SCAN":
        # For the names of one slot, whose pattern has their hash tag.
        return slot_of(str(arguments[list(arguments).index("MATCH") + 1])) if "MATCH" in arguments else None
    index = 2 if words[0] in _TWO_WORDS and len(words) == 1 else 1
    return slot_of(str(arguments[index])) if len(arguments) > index else None


class ClusterPool(redis.ConnectionPool):
    """The bounded pools of all nodes. Where a plain pool is expected, it connects to any master."""

    def __init__(self, url: str, max_connections: int, *, patience: float, **options: Any) -> None:
        """`options` are for connections; each node has `max_connections`. `patience` is in seconds."""
        address = ClusterAddress.parse(url)
        self.topology = topology(address)
        self.patience = patience
        self._options = {
            **options,
            # Attempts go to the node that has the slot by then, so they are the client's.
            "retry": Retry(NoBackoff(), 0),
            **address.redis_options,
            "connection_class": address.connection_class,
            "max_connections": max_connections,
        }
        self._guard = threading.Lock()
        self._pools: dict[ClusterNode, redis.BlockingConnectionPool] = {}
        described = {name: value for name, value in self._options.items() if name not in ("max_connections", "timeout")}
        super().__init__(max_connections=max_connections, **described)
        self.topology.follow(self)

    def with_patience(self, patience: float) -> ClusterPool:
        """These connections, for commands that wait up to `patience` seconds."""
        found = copy(self)
        found.patience = patience
        return found

    def of(self, node: ClusterNode) -> redis.BlockingConnectionPool:
        with self._guard:
            if node not in self._pools:
                self._pools[node] = redis.BlockingConnectionPool(host=node.host, port=node.port, **self._options)
            return self._pools[node]

    def node_client(self, node: ClusterNode, max_connections: int) -> redis.Redis:
        """A client of one node, master or replica, with connections of its own; it follows nothing."""
        options = {**self._options, "max_connections": max_connections}
        return redis.Redis(connection_pool=redis.BlockingConnectionPool(host=node.host, port=node.port, **options))

    def of_slot(self, slot: int | None) -> redis.BlockingConnectionPool:
        """The pool of the node that has the slot, or of any master. Raises redis-py's `ConnectionError`."""
        return self.of(self.node(slot))

    def node(self, slot: int | None) -> ClusterNode:
        """The node that has the slot, or any master. Raises redis-py's `ConnectionError`."""
        return self.topology.owner(slot) if slot is not None else CHANCE.choice(list(self.topology.masters()))

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        pool = self.of_slot(None)
        connection = pool.get_connection()
        connection.home = pool
        return connection

    def release(self, connection: Any) -> None:
        connection.home.release(connection)

    def disconnect(self, inuse_connections: bool = True) -> None:
        with self._guard:
            pools = list(self._pools.values())
        for pool in pools:
            pool.disconnect(inuse_connections)

    def on_change(self, masters: frozenset[ClusterNode]) -> None:
        """Closes the connections to nodes that are no masters any longer, which may be frozen."""
        with self._guard:
            gone = [self._pools.pop(node) for node in list(self._pools) if node not in masters]
        for pool in gone:
            for connection in list(pool._connections):
                if (sock := connection._sock) is not None:
                    # The thread that uses the connection gets an error, and closes it.
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def patiently(self, attempt: Callable[[], _Answer]) -> _Answer:
        """The answer of `attempt`, which is repeated until slots and nodes are in order or the time is over."""
        deadline, delay, redirections = time.monotonic() + self.patience, _FIRST_DELAY, 0
        while True:
            try:
                return attempt()
            except (redis.RedisError, OSError) as error:
                if not passes(error):
                    raise
                problem = error
            if isinstance(problem, MovedError):
                self.topology.moved(problem.slot_id, ClusterNode(problem.host, problem.port))
                redirections += 1
                if redirections <= _REDIRECTIONS:
                    continue
            if time.monotonic() + delay > deadline:
                raise problem
            time.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)
            with contextlib.suppress(redis.ConnectionError):
                self.topology.discover()


def passes(error: object) -> bool:
    """Whether a failover or the end of a move may cure the error."""
    if isinstance(error, (AskError, TryAgainError, ClusterDownError, redis.TimeoutError)):
        return True
    if isinstance(error, redis.ConnectionError):
        return not isinstance(error, AuthenticationError)
    return isinstance(error, ResponseError) and _NON_LOCAL in str(error)
