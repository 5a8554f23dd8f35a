"""A client of a Redis Cluster: redis-py's client of one Redis, which sends each command to the node that has its key.

redis-py's own `RedisCluster` refuses EVALSHA in a pipeline, and its pools are not bounded. Here a pipeline makes one
round trip to each of its nodes. A command goes to the new owner after a failover or a move of its slot, and waits for
it: every step is idempotent.

While a slot moves, some of its keys are at one node and some at the other. Redis refuses a script (TRYAGAIN) when a key
that it names is missing. A missing key that it uses but does not name fails it in its middle, with its first writes
made. So each script names a key that never exists, and none runs before the move is complete. A command for one
missing key gets ASK; it waits too, as the scripts of the same session have to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import MovedError, ResponseError

from chatbot.store.cluster.pool import ClusterPool, passes, slot_of_command
from chatbot.store.cluster.topology import ClusterNode


class ClusterClient(redis.Redis):
    """Raises what redis-py's client raises."""

    connection_pool: ClusterPool

    def __init__(self, connection_pool: ClusterPool, slots: Sequence[int] = ()) -> None:
        """Commands without a key go to the owner of the first of `slots`; to any master without slots."""
        super().__init__(connection_pool=connection_pool)
        self._slots = tuple(slots)

    def masters(self) -> list[ClusterNode]:
        """The owners of the client's slots; all masters without slots. Raises redis-py's `ConnectionError`."""
        topology = self.connection_pool.topology
        return sorted({topology.owner(slot) for slot in self._slots} if self._slots else topology.masters())

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if str(args[0]).upper() == "SCRIPT LOAD":
            return self._load(args, options)
        slot = slot_of_command(args, self._slots)
        return self.connection_pool.patiently(lambda: self._attempt(self.connection_pool.of_slot(slot), args, options))

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> ClusterPipeline:
        """A pipeline that may span slots, or a transaction in the slot of its first key."""
        return ClusterPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint, self._slots)

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

    def __init__(self, pool: ClusterPool, callbacks: Any, transaction: bool, hint: Any, slots: Sequence[int]) -> None:
        super().__init__(pool, callbacks, transaction, hint)
        self._slots = slots

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
            left = [group for group in left if any(passes(answers[index]) for index in group)]
            for index in (index for group in left for index in group):
                if isinstance(answers[index], MovedError):
                    self.connection_pool.topology.moved(
                        answers[index].slot_id, ClusterNode(answers[index].host, answers[index].port)
                    )
            if left:
                raise next(answers[index] for group in left for index in group if passes(answers[index]))
            return answers

        try:
            return self.connection_pool.patiently(attempt)
        except (redis.RedisError, OSError) as error:
            if any(answer is error for answer in answers):
                return answers
            raise

    @staticmethod
    def _groups(commands: Sequence[Any]) -> list[list[int]]:
        """The indexes of the commands; those without a key are with the one before them."""
        groups: list[list[int]] = []
        for index, (args, _) in enumerate(commands):
            if groups and slot_of_command(args) is None:
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def _round(self, commands: Sequence[Any], groups: Iterable[list[int]], answers: list[Any]) -> None:
        """Sends the groups to their nodes, and writes each answer or exception to its index."""
        indexes: dict[ClusterNode, list[int]] = {}
        for group in groups:
            node = self.connection_pool.node(slot_of_command(commands[group[0]][0], self._slots))
            indexes.setdefault(node, []).extend(group)
        sent: list[tuple[Any, Any, list[int]]] = []
        try:
            for node, own in indexes.items():
                self._send(node, [commands[index] for index in own], own, answers, sent)
        finally:
            for pool, connection, own in sent:
                self._receive(pool, connection, commands, own, answers)

    def _send(
        self, node: ClusterNode, commands: list[Any], own: list[int], answers: list[Any], sent: list[Any]
    ) -> None:
        pool = self.connection_pool.of(node)
        try:
            connection = pool.get_connection()
        except (redis.RedisError, OSError) as error:
            for index in own:
                answers[index] = error
            return
        try:
            connection.send_packed_command(connection.pack_commands([args for args, _ in commands]))
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            pool.release(connection)
            for index in own:
                answers[index] = error
            return
        sent.append((pool, connection, own))

    def _receive(self, pool: Any, connection: Any, commands: Sequence[Any], own: list[int], answers: list[Any]) -> None:
        done = 0
        try:
            for index in own:
                args, options = commands[index]
                try:
                    answers[index] = self.parse_response(connection, args[0], **options)  # type: ignore[no-untyped-call]
                except ResponseError as error:
                    answers[index] = error
                done += 1
        except (redis.RedisError, OSError) as error:
            for index in own[done:]:
                answers[index] = error
        finally:
            if done < len(own):
                connection.disconnect()
            pool.release(connection)
