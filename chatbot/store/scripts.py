"""Runs the Lua scripts of `chatbot/sessions/scripts` by name: each is one atomic step on a session."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import redis
from redis.commands.core import Script

from chatbot.errors import DamagedSession, StoreUnavailable
from chatbot.store.partitions import Target
from chatbot.store.script_texts import ordered, source

#: Milliseconds that a write may take to reach the replicas; a reachable replica takes about one.
REPLICATION_TIMEOUT = 1000

Value = str | int | float
_Call = tuple[Sequence[str], Sequence[Value]]

_WRONG_TYPE = re.compile(r"WRONGTYPE |Existing key has wrong")
_SCRIPT_ERROR = re.compile(r"^(?![A-Z]{3,} ).*user_script", re.DOTALL)


class SendsScripts(Protocol):
    """Another way to run a script than a client's: see worker/pipelined_scripts.py."""

    def evalsha(self, client: redis.Redis, sha: str, keys: int, values: Sequence[Any], usual: Callable[[], Any]) -> Any:
        """The script's answer, or that of `usual`, which runs it with the client."""


class Scripts:
    """Runs scripts. Every method raises `StoreUnavailable` when Redis fails, and `TypeError` for wrong arguments."""

    def __init__(self, *, replicas: int = 0, sender: SendsScripts | None = None) -> None:
        """`replicas` is the number of them that must have what `run_replicated` writes; `sender` sends what `run` runs,
        unless the client does.
        """
        self._replicas = replicas
        self._sender = sender
        self._scripts: dict[str, Script] = {}

    def run(self, name: str, at: Target, keys: Sequence[str], /, *further: Value, **arguments: Value) -> Any:
        """The script's answer, where `at` has the keys. `further` values stand behind the named arguments in ARGV."""
        values = (*keys, *ordered(name, arguments), *further)
        try:
            client = at.client
            script = self._script(name, client)

            def usual() -> Any:
                try:
                    return client.evalsha(script.sha, len(keys), *values)
                except redis.exceptions.NoScriptError:
                    # Redis was restarted, or another one is master.
                    client.script_load(script.script)
                    return client.evalsha(script.sha, len(keys), *values)

            if self._sender is None:
                return usual()
            return self._sender.evalsha(client, script.sha, len(keys), values, usual)
        except redis.RedisError as error:
            raise _failure(name, error) from error

    def run_replicated(self, name: str, at: Target, keys: Sequence[str], /, *further: Value, **arguments: Value) -> Any:
        """Like `run`; returns once the replicas have what the script wrote, and everything before it.

        Raises `StoreUnavailable` also when they lack it after `REPLICATION_TIMEOUT`; the master has it then.
        """
        if not self._replicas:
            return self.run(name, at, keys, *further, **arguments)
        calls = [(keys, [*ordered(name, arguments), *further])]
        answer, replicas = self._round_trip(name, at.client, calls, self._replicas)
        for found in (answer, replicas):
            if isinstance(found, Exception):
                raise found
        if replicas < self._replicas:
            # The replicas may follow another master by now.
            at.client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailable(f"{name}: {replicas} of {self._replicas} replicas have it")
        return answer

    def run_many(
        self, name: str, at: Target, calls: Sequence[tuple[Sequence[str], Sequence[Value], Mapping[str, Value]]]
    ) -> list[Any]:
        """The answers to several calls of one script, in one round trip. A call has its keys, further values and named
        arguments; all keys are where `at` is.

        The answer of a call that failed at its own session is the `DamagedSession`. That of one whose node failed while
        others of the same client did not is the `StoreUnavailable`, which is raised if all failed. It waits for no
        failover: the caller tries again.
        """
        found = [(keys, [*ordered(name, arguments), *further]) for keys, further, arguments in calls]
        answers = self._round_trip(name, at.fail_fast_client, found)
        if answers and all(_unavailable(answer) for answer in answers):
            raise answers[0]
        return answers

    def _script(self, name: str, client: redis.Redis) -> Script:
        if name not in self._scripts:
            self._scripts[name] = client.register_script(source(name))
        return self._scripts[name]

    def _round_trip(self, name: str, client: redis.Redis, calls: Sequence[_Call], replicas: int = 0) -> list[Any]:
        """The answers, and behind them how many replicas have the writes when `replicas` are asked for."""
        script = self._script(name, client)
        try:
            answers = _send(client, script.sha, calls, replicas)
            missed = [i for i, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
            if missed:
                # Redis was restarted, or another one is master: it ran none of these calls.
                client.script_load(script.script)
                again = _send(client, script.sha, [calls[i] for i in missed], replicas)
                for i, answer in zip([*missed, *([-1] if replicas else [])], again, strict=True):
                    answers[i] = answer
        except redis.RedisError as error:
            raise StoreUnavailable(f"{name}: {type(error).__name__}: {error}") from error
        for i, answer in enumerate(answers):
            if isinstance(answer, Exception):
                answers[i] = _failure(name, answer)
        return answers


def _send(client: redis.Redis, sha: str, calls: Sequence[_Call], replicas: int) -> list[Any]:
    if len(calls) == 1 and not replicas:
        keys, values = calls[0]
        try:
            # Half of a pipeline's cost, for most rounds of reports.
            return [client.evalsha(sha, len(keys), *keys, *values)]
        except redis.ResponseError as error:
            return [error]
    with client.pipeline(transaction=False) as pipeline:
        for keys, values in calls:
            pipeline.evalsha(sha, len(keys), *keys, *values)
        if replicas:
            # WAIT covers what this connection wrote before.
            pipeline.execute_command("WAIT", replicas, REPLICATION_TIMEOUT)
        return pipeline.execute(raise_on_error=False)


def _unavailable(answer: Any) -> bool:
    return isinstance(answer, StoreUnavailable) and not isinstance(answer, DamagedSession)


def _failure(name: str, error: Exception) -> StoreUnavailable:
    """A script's own errors begin with no code but WRONGTYPE; others, such as OOM, are of Redis as a whole."""
    text = f"{name}: {type(error).__name__}: {error}"
    wrong_type = bool(_WRONG_TYPE.match(str(error)))
    if type(error) is redis.ResponseError and (wrong_type or _SCRIPT_ERROR.search(str(error))):
        return DamagedSession(text, wrong_type=wrong_type)
    return StoreUnavailable(text)
