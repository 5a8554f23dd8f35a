"""The connection to Redis, the names of keys, and the scripts that make each step on a session atomic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from chatbot.connections import create_pool
from chatbot.errors import StoreUnavailable

#: Sessions with unanswered messages, scored by the time, in ms since 1970, at which somebody should look.
LEDGER = "chat:ledger"
#: Sessions with unanswered messages, scored by the time, in ms since 1970, since when one waits for a worker; of a
#: session that a worker is at, and of one whose model call is put off, that lies ahead.
WAITING = "chat:waiting"
#: Sessions with unanswered messages, scored by the time, in ms since 1970, at which the oldest of them was accepted.
UNANSWERED = "chat:unanswered"
#: Worker processes, scored by the time, in seconds since 1970, at which they last proved to take and run tasks.
WORKERS = "chat:workers"
#: What all workers have counted: see metrics.py.
METRICS = "chat:metrics"

#: A step takes Redis well under a millisecond; seconds of silence mean that it is gone or stuck.
SOCKET_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0
#: Seconds of waiting for a connection out of the pool before the store counts as unavailable.
POOL_TIMEOUT = 5.0
#: ms for the replicas to have what they must; a reachable one takes about one.
REPLICATION_TIMEOUT = 1000

#: In the order of KEYS in scripts/_session.lua. The hash tag keeps one session's keys in one slot.
_SUFFIXES = ("session", "index", "turns", "pending", "failed", "state", "partial", "lease")
_SOCKETS = "sockets"


def connect(url: str, max_connections: int, *, retries: int = 1) -> redis.Redis:
    """A client with a bounded pool; it connects at its first command.

    `url` may be that of Sentinels: see `connections`. A command is tried again once on a fresh connection when its
    own has been cut (Redis restarted): every step here can come twice without harm. With `retries` 0 every cut is
    told, also to a subscriber, which would otherwise be connected again without a word of what it missed.
    """
    pool = create_pool(
        url,
        max_connections=max_connections,
        timeout=POOL_TIMEOUT,
        decode_responses=True,
        protocol=2,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), retries, supported_errors=(redis.ConnectionError,)),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return redis.Redis(connection_pool=pool)


@lru_cache(maxsize=500)
def session_keys(session_id: str) -> tuple[str, ...]:
    """The keys of one session and those that all share, in the order that the scripts expect."""
    own = (f"chat:{{{session_id}}}:{suffix}" for suffix in _SUFFIXES)
    return (*own, LEDGER, WAITING, f"chat:{{{session_id}}}:{_SOCKETS}")


class Scripts:
    """The Lua scripts of `chatbot/scripts`, run by name. Redis trouble comes out as `StoreUnavailable`."""

    def __init__(self, client: redis.Redis, *, replicas: int = 0) -> None:
        """`replicas` must have what `keep` writes."""
        self.client = client
        self._replicas = replicas
        self._scripts: dict[str, Script] = {}

    def script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = self.client.register_script(source(name))
        return self._scripts[name]

    def run(self, name: str, keys: Sequence[str], *args: str | int | float) -> Any:
        """The script's answer. Raises `StoreUnavailable`."""
        try:
            return self.script(name)(keys=keys, args=args)
        except redis.RedisError as error:
            raise StoreUnavailable(f"{name}: {type(error).__name__}: {error}") from error

    def keep(self, name: str, keys: Sequence[str], *args: str | int | float) -> Any:
        """Like `run` for a script that writes, and returns only once the replicas have that, and all before it.

        Raises `StoreUnavailable` also when they do not within `REPLICATION_TIMEOUT`; the master has it then.
        """
        if not self._replicas:
            return self.run(name, keys, *args)
        script = self.script(name)
        try:
            answer, replicas = self._and_wait(script.sha, keys, args)
            if isinstance(answer, redis.exceptions.NoScriptError):
                # Redis was restarted, or is another one.
                self.client.script_load(script.script)
                answer, replicas = self._and_wait(script.sha, keys, args)
        except redis.RedisError as error:
            raise StoreUnavailable(f"{name}: {type(error).__name__}: {error}") from error
        for result in (answer, replicas):
            if isinstance(result, Exception):
                raise StoreUnavailable(f"{name}: {type(result).__name__}: {result}") from result
        if replicas < self._replicas:
            # Perhaps they follow another master by now.
            self.client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(f"{name}: {replicas} of {self._replicas} replicas have it")
        return answer

    def _and_wait(self, sha: str, keys: Sequence[str], args: Sequence[str | int | float]) -> list[Any]:
        """One round trip: WAIT is for what this connection wrote before."""
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.evalsha(sha, len(keys), *keys, *args)
            pipeline.execute_command("WAIT", self._replicas, REPLICATION_TIMEOUT)
            return pipeline.execute(raise_on_error=False)


def clock(answer: tuple[int, int]) -> float:
    """Seconds since 1970 by the clock that all hosts share, out of Redis' answer to TIME."""
    seconds, microseconds = answer
    return seconds + microseconds / 1e6


def source(name: str) -> str:
    """The text of a script, with the part that all session scripts share before it."""
    folder = files("chatbot") / "scripts"
    text = (folder / f"{name}.lua").read_text("utf-8")
    return text if name == "sweep" else (folder / "_session.lua").read_text("utf-8") + text
