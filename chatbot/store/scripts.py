"""Runs the Lua scripts of `chatbot/sessions/scripts` by name: each is one atomic step on a session."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import redis
from redis.commands.core import Script

from chatbot.errors import StoreUnavailable

#: ms for the replicas to have what they must; a reachable one takes about one.
REPLICATION_TIMEOUT = 1000


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


def source(name: str) -> str:
    """The text of a script, with the part that all session scripts share before it."""
    folder = files("chatbot.sessions") / "scripts"
    text = (folder / f"{name}.lua").read_text("utf-8")
    return text if name == "sweep" else (folder / "_session.lua").read_text("utf-8") + text
