"""A client of a Redis Cluster: redis-py's client of one Redis, which sends each command to the node that has its key.

redis-py's own `RedisCluster` refuses EVALSHA in a pipeline, and its pools are not bounded. Here a pipeline makes one
round trip to each of its nodes. A command goes to the new owner after a failover or a move of its slot, and waits for
it: every step is idempotent.

While a slot moves, some of its keys are at one node and some at the other. Redis refuses a script (TRYAGAIN) of whose
keys one is missing, and fails it in its middle, with its first writes made, where it uses a missing key that it did
not name. So each script names a key that never exists, and none runs before the move is complete. A command for one
missing key gets ASK; it waits too, as the scripts of the same session have to.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.crc import key_slot
from redis.exceptions import AskError, AuthenticationError, ClusterDownError, MovedError, ResponseError, TryAgainError
from redis.retry import Retry

from chatbot.store.cluster import ClusterAddress, Node, topology

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


def slot_of_command(arguments: Sequence[Any]) -> int | None:
    """The slot of a command's first key; None when it has none."""
    # redis-py has some commands of two words as one argument.
    words = str(arguments[0]).upper().split(" ")
    if words[0] in _ANYWHERE:
        return None
    if words[0] in _SCRIPTS:
        return slot_of(str(arguments[3])) if int(arguments[2]) else None
    if words[0] == "SCAN":
        # For the names of one slot, whose pattern has their hash tag.
        return slot_of(str(arguments[list(arguments).index("MATCH") + 1])) if "MATCH" in arguments else None
    place = 2 if words[0] in _TWO_WORDS and len(words) == 1 else 1
    return slot_of(str(arguments[place])) if len(arguments) > place else None


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
        self._pools: dict[Node, redis.BlockingConnectionPool] = {}
        described = {name: value for name, value in self._options.items() if name not in ("max_connections", "timeout")}
        super().__init__(max_connections=max_connections, **described)
        self.topology.follow(self)

    def of(self, node: Node) -> redis.BlockingConnectionPool:
        with self._guard:
            if node not in self._pools:
                self._pools[node] = redis.BlockingConnectionPool(host=node.host, port=node.port, **self._options)
            return self._pools[node]

    def node_client(self, node: Node, max_connections: int) -> redis.Redis:
        """A client of one node, master or replica, with connections of its own; it follows nothing."""
        options = {**self._options, "max_connections": max_connections}
        return redis.Redis(connection_pool=redis.BlockingConnectionPool(host=node.host, port=node.port, **options))

    def of_slot(self, slot: int | None) -> redis.BlockingConnectionPool:
        """The pool of the node that has the slot, or of any master. Raises redis-py's `ConnectionError`."""
        return self.of(self.node(slot))

    def node(self, slot: int | None) -> Node:
        """The node that has the slot, or any master. Raises redis-py's `ConnectionError`."""
        return self.topology.owner(slot) if slot is not None else random.choice(list(self.topology.masters()))

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

    def on_change(self, masters: frozenset[Node]) -> None:
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
                if not _passes(error):
                    raise
                problem = error
            if isinstance(problem, MovedError):
                self.topology.moved(problem.slot_id, Node(problem.host, problem.port))
                redirections += 1
                if redirections <= _REDIRECTIONS:
                    continue
            if time.monotonic() + delay > deadline:
                raise problem
            time.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)
            with contextlib.suppress(redis.ConnectionError):
                self.topology.discover()


def _passes(error: object) -> bool:
    """Whether a failover or the end of a move may cure the error."""
    if isinstance(error, (AskError, TryAgainError, ClusterDownError, redis.TimeoutError)):
        return True
    if isinstance(error, redis.ConnectionError):
        return not isinstance(error, AuthenticationError)
    return isinstance(error, ResponseError) and _NON_LOCAL in str(error)


class ClusterClient(redis.Redis):
    """Raises what redis-py's client raises."""

    connection_pool: ClusterPool

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if str(args[0]).upper() == "SCRIPT LOAD":
            return self._load(args, options)
        slot = slot_of_command(args)
        return self.connection_pool.patiently(lambda: self._attempt(self.connection_pool.of_slot(slot), args, options))

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> ClusterPipeline:
        """A pipeline that may span slots, or a transaction in the slot of its first key."""
        return ClusterPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)

    def _load(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Loads a script into all masters that answer."""
        pool, answers, problem = self.connection_pool, [], None
        for node in pool.topology.masters():
            try:
                answers.append(self._attempt(pool.of(node), args, options))
            except redis.ConnectionError as error:
                problem = error
        if not answers:
            raise problem or redis.ConnectionError("the cluster has no master")
        return answers[0]

    def _attempt(self, pool: redis.BlockingConnectionPool, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        connection = pool.get_connection()
        try:
            connection.send_command(*args)
            return self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError):
            connection.disconnect()
            raise
        finally:
            pool.release(connection)


class ClusterPipeline(Pipeline):
    """Commands in one round trip for each node that has some of them, to all of those at the same time.

    The answers of a node that fails are the exceptions, for a caller that does not have errors raised.
    """

    connection_pool: ClusterPool

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands = list(self.command_stack)
        transaction = vars(self)["transaction"]
        self.reset()
        if not commands:
            return []
        answers = self._transact(commands) if transaction else self._send_all(commands)
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    def _transact(self, commands: Sequence[Any]) -> list[Any]:
        slot = slot_of_command(commands[0][0])

        def attempt() -> list[Any]:
            pool = self.connection_pool.of_slot(slot)
            connection = pool.get_connection()
            try:
                return self._execute_transaction(connection, commands, raise_on_error=True)
            except (redis.ConnectionError, redis.TimeoutError):
                connection.disconnect()
                raise
            finally:
                pool.release(connection)

        return self.connection_pool.patiently(attempt)

    def _send_all(self, commands: Sequence[Any]) -> list[Any]:
        answers: list[Any] = [None] * len(commands)
        left = self._groups(commands)

        def attempt() -> list[Any]:
            nonlocal left
            self._round(commands, left, answers)
            # WAIT counts for the command before it: both go again.
            left = [group for group in left if any(_passes(answers[place]) for place in group)]
            for place in (place for group in left for place in group):
                if isinstance(answers[place], MovedError):
                    self.connection_pool.topology.moved(
                        answers[place].slot_id, Node(answers[place].host, answers[place].port)
                    )
            if left:
                raise next(answers[place] for group in left for place in group if _passes(answers[place]))
            return answers

        try:
            return self.connection_pool.patiently(attempt)
        except (redis.RedisError, OSError) as error:
            if any(answer is error for answer in answers):
                return answers
            raise

    @staticmethod
    def _groups(commands: Sequence[Any]) -> list[list[int]]:
        """The places of the commands; those without a key are with the one before them."""
        groups: list[list[int]] = []
        for place, (args, _) in enumerate(commands):
            if groups and slot_of_command(args) is None:
                groups[-1].append(place)
            else:
                groups.append([place])
        return groups

    def _round(self, commands: Sequence[Any], groups: Iterable[list[int]], answers: list[Any]) -> None:
        """Sends the groups to their nodes, and writes each answer or exception to its place."""
        places: dict[Node, list[int]] = {}
        for group in groups:
            node = self.connection_pool.node(slot_of_command(commands[group[0]][0]))
            places.setdefault(node, []).extend(group)
        sent: list[tuple[Any, Any, list[int]]] = []
        try:
            for node, own in places.items():
                self._send(node, [commands[place] for place in own], own, answers, sent)
        finally:
            for pool, connection, own in sent:
                self._receive(pool, connection, commands, own, answers)

    def _send(self, node: Node, commands: list[Any], own: list[int], answers: list[Any], sent: list[Any]) -> None:
        pool = self.connection_pool.of(node)
        try:
            connection = pool.get_connection()
        except (redis.RedisError, OSError) as error:
            for place in own:
                answers[place] = error
            return
        try:
            connection.send_packed_command(connection.pack_commands([args for args, _ in commands]))
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            pool.release(connection)
            for place in own:
                answers[place] = error
            return
        sent.append((pool, connection, own))

    def _receive(self, pool: Any, connection: Any, commands: Sequence[Any], own: list[int], answers: list[Any]) -> None:
        done = 0
        try:
            for place in own:
                args, options = commands[place]
                try:
                    answers[place] = self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
                except ResponseError as error:
                    answers[place] = error
                done += 1
        except (redis.RedisError, OSError) as error:
            for place in own[done:]:
                answers[place] = error
        finally:
            if done < len(own):
                connection.disconnect()
            pool.release(connection)
