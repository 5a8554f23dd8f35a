"""The steps in Redis of replies that run in a `ModelLoop`: one connection to each Redis carries those of all replies.

Redis answers in the order of the questions, so a step is sent whatever answers are outstanding, and no thread waits for
one. The steps of one iteration of the loop are sent together: so Redis wakes up, reads and writes once for all of them.

This is the way of the ordinary step on a connection in order. Whatever else comes, an error of Redis or a broken
connection, has the step run again by its usual client, in another thread: every step is idempotent.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import greenlet
import hiredis
import redis

from chatbot.store.client import SOCKET_TIMEOUT, pool_of_key
from chatbot.store.connections import buffered_responses
from chatbot.worker.models.event_loop import ModelLoop, current_loop

#: Bytes read at once.
_READ_SIZE = 65536
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class PipelinedScripts:
    """Runs scripts for callers in the loop's thread. `SendsScripts` for `Scripts`."""

    def __init__(self, loop: ModelLoop) -> None:
        self._loop = loop
        self._connections: dict[redis.ConnectionPool, _PipelinedConnection] = {}
        #: Pools with which a connection is being opened.
        self._opening: set[redis.ConnectionPool] = set()
        loop.checks.append(self._check)

    def evalsha(self, client: redis.Redis, sha: str, keys: int, values: Sequence[Any], usual: Callable[[], Any]) -> Any:
        """The answer of a script, or what `usual` returns or raises, which runs it with `client`."""
        if current_loop() is None:
            return usual()
        try:
            pool = pool_of_key(client, values[0])
        except redis.ConnectionError:
            return self._loop.outside(usual)
        connection = self._connections.get(pool)
        if connection is None:
            return self._open(pool, usual)
        answer = connection.ask(hiredis.pack_command(("EVALSHA", sha, keys, *values)))
        if isinstance(answer, redis.TimeoutError):
            raise answer
        return self._loop.outside(usual) if isinstance(answer, Exception) else answer

    def _open(self, pool: redis.ConnectionPool, usual: Callable[[], Any]) -> Any:
        """Runs a step as usual. Where that works, opens a connection for the steps to come."""
        if pool in self._opening:
            return self._loop.outside(usual)
        self._opening.add(pool)
        try:
            answer, connection = self._loop.outside(lambda: (usual(), pool.get_connection()))
        finally:
            self._opening.discard(pool)
        self._connections[pool] = _PipelinedConnection(self._loop, connection, lambda: self._release(pool, connection))
        return answer

    def _release(self, pool: redis.ConnectionPool, connection: Any) -> None:
        self._connections.pop(pool, None)
        connection.disconnect()
        pool.release(connection)

    def _check(self, now: float) -> None:
        for connection in list(self._connections.values()):
            connection.check(now)


class _PipelinedConnection:
    """A connection to one Redis. For the loop's own thread."""

    def __init__(self, loop: ModelLoop, connection: Any, on_close: Callable[[], None]) -> None:
        self._loop = loop
        self._connection = connection
        self._sock: Any = connection._sock
        self._on_close = on_close
        self._sock.setblocking(False)
        #: The greenlets that wait for an answer, in the order of their questions, with the monotonic time of these.
        self._waiting: deque[tuple[greenlet.greenlet, float]] = deque()
        self._outgoing = b""
        self._writing = self._closed = False
        loop.watch(self._sock, self._on_event)

    def ask(self, command: bytes) -> Any:
        """The answer to a command; an exception for an error of Redis or of the connection."""
        if not self._outgoing:
            self._loop.after_step(self._flush)
        self._outgoing += command
        self._waiting.append((greenlet.getcurrent(), self._loop.now))
        return self._loop.pause()

    def check(self, now: float) -> None:
        """Closes a connection on which Redis is silent."""
        if self._waiting and now - self._waiting[0][1] > SOCKET_TIMEOUT:
            self._close(redis.TimeoutError("Timeout reading from socket"))

    def _flush(self) -> None:
        """Sends what the loop's iteration has asked."""
        if not self._closed and not self._writing:
            try:
                self._send()
            except OSError as error:
                self._close(error)

    def _send(self) -> None:
        """Sends what the connection takes. Raises `OSError`."""
        try:
            sent = self._sock.send(self._outgoing)
        except _NOT_NOW:
            sent = 0
        self._outgoing = self._outgoing[sent:]
        if bool(self._outgoing) != self._writing:
            self._writing = bool(self._outgoing)
            self._loop.watch(self._sock, self._on_event, writing=self._writing)

    def _on_event(self, _: int) -> None:
        """Called by the loop when the socket can be read or written to."""
        try:
            if self._writing:
                self._send()
            self._receive()
        except (OSError, redis.RedisError) as error:
            self._close(error)

    def _receive(self) -> None:
        reader = self._connection._parser._reader
        while True:
            try:
                data = self._sock.recv(_READ_SIZE)
            except _NOT_NOW:
                return
            if not data:
                raise redis.ConnectionError("Redis closed the connection")
            reader.feed(data)
            for answer in buffered_responses(self._connection):
                if not self._waiting:
                    raise redis.ConnectionError("an answer to no question")
                self._waiting.popleft()[0].switch(answer)
            if len(data) < _READ_SIZE and not isinstance(self._sock, ssl.SSLSocket):
                return

    def _close(self, error: Exception) -> None:
        """Gives the error to all that wait."""
        if self._closed:
            return
        self._closed = True
        self._loop.forget(self._sock)
        self._on_close()
        waiting, self._waiting = self._waiting, deque()
        for call, _ in waiting:
            self._loop.post(lambda call=call: call.switch(error))  # type: ignore[misc]
