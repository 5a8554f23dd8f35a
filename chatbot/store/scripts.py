"""Runs the Lua scripts of `chatbot/sessions/scripts` by name: each is one atomic step on a session.

A script has its keys and arguments as locals, under the names that stand here and in keys.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import redis
from redis.commands.core import Script

from chatbot.errors import DamagedSession, StoreUnavailable
from chatbot.store.keys import EVENTS, SUFFIXES, ApiKeyKeys, SessionKeys, SharedKeys, session_prefix
from chatbot.store.partitions import Target

#: Milliseconds that a write may take to reach the replicas; a reachable replica takes about one.
REPLICATION_TIMEOUT = 1000

Value = str | int | float
_Call = tuple[Sequence[str], Sequence[Value]]

_WRONG_TYPE = re.compile(r"WRONGTYPE |Existing key has wrong")
_SCRIPT_ERROR = re.compile(r"^(?![A-Z]{3,} ).*user_script", re.DOTALL)

_ADMIT = (
    *("session", "message", "ttl_ms", "max_pending", "check_after_ms", "max_wait_ms"),
    *("on_busy", "stop_channel", "charge", "elsewhere", "queue", "task", "trace"),
)
_HISTORY = ("max_history", "max_history_bytes")
_LEASE = ("lease_ms", "grace_ms", "owner")
_SETTLE = (
    *("session", "fence", "message", "go_on", "prompt_size", "events", "frame", "ttl_ms", "usage"),
    *("trace", "attempt"),
    *_LEASE,
)
#: The arguments of each script. All are strings in Lua. A name means the same in every script, as shared functions
#: read them: `message` is a message's id, `events` a session's channel, `owner` the channel of a worker process.
ARGUMENTS = {
    "create": ("content", "ttl_ms", "max_age_ms"),
    "import": ("content", "further", "ttl_ms", "max_age_ms"),
    "read": ("before", "limit", "page_bytes", "ttl_ms"),
    "accept": (*_ADMIT, "content", "events", "parent_id", "sibling", *_HISTORY),
    "regenerate": (*_ADMIT, "of", "events"),
    "select": ("message", "events", "ttl_ms"),
    "feedback": ("message", "content", "frame", "events", "ttl_ms"),
    "retry": _ADMIT,
    "stop": ("session", "stop_channel", "ttl_ms"),
    "request": ("message", "ttl_ms"),
    "path": ("message", "prompt_size", "ttl_ms"),
    "cancel": ("session", "message", "stop_channel", "failure", "frame", "events", "ttl_ms"),
    "forget": ("message", "ttl_ms"),
    "snapshot": ("after", "position", "page_messages", "page_bytes", "ttl_ms"),
    "add_socket": ("field", "most"),
    "end": ("session", "events"),
    "give_up": ("session", "attempts", "wrong_type", "events", "ttl_ms"),
    "claim": ("session", "prompt_size", "attempt", *_LEASE),
    "progress": _LEASE,
    "commit": (*_SETTLE, "reply_id", "reply", "last_delta", *_HISTORY),
    "fail": (*_SETTLE, "failure"),
    "postpone": ("session", "fence", "delay_ms", "loading", "keep", "events", "frame"),
    "sweep": ("limit", "interval_ms", "lease_ms", "grace_ms", "first_wait_ms", "longest_wait_ms", "others"),
    "admit": ("session", "max_wait_ms"),
    "give_back": ("session", "stays"),
    "take": ("share",),
    "check_charge": ("message", "charge"),
    "reserve": ("charge", "tokens"),
    "settle": ("charge", "outcome", "prompt_tokens", "completion_tokens", "cached_tokens", "keep_ms"),
}
#: The scripts that work on many sessions, one after the other, with the keys that they use of each and name themselves.
_PROGRESS = ("document", "state", "partial", "partial_reasoning", "partial_calls", "lease")
_OF_MANY: dict[str, Sequence[str]] = {"progress": _PROGRESS, "sweep": tuple(SUFFIXES)}
#: The scripts that work on an address, for a session in another partition.
_OF_ADDRESS = ("admit", "give_back", "take")
#: The scripts that work on an API key, not on a session.
_OF_API_KEY = ("reserve", "settle")
#: What a script has before it besides `_session`.
_PARTS = {
    "import": ("_rates",),
    "read": ("_rates", "_log", "_tree", "_page"),
    "accept": ("_rates", "_pace", "_line", "_stop", "_admission", "_log", "_tree"),
    "retry": ("_rates", "_pace", "_line", "_stop", "_admission"),
    "regenerate": ("_rates", "_pace", "_line", "_stop", "_admission", "_log", "_tree"),
    "admit": ("_rates", "_pace", "_line"),
    "take": ("_rates",),
    "sweep": ("_pace", "_line"),
    "select": ("_log", "_tree"),
    "feedback": ("_log",),
    "stop": ("_stop",),
    "request": ("_log", "_tree"),
    "path": ("_log", "_tree", "_reply"),
    "cancel": ("_stop",),
    "forget": ("_log", "_tree"),
    "snapshot": ("_rates", "_log", "_tree", "_page"),
    "end": ("_end",),
    "give_up": ("_end",),
    "reserve": ("_key_rates",),
    "settle": ("_key_rates",),
    "claim": ("_pace", "_log", "_tree", "_reply"),
    "commit": ("_log", "_tree", "_reply"),
    "fail": ("_log", "_tree", "_reply"),
}


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


def ordered(name: str, arguments: Mapping[str, Value]) -> list[Value]:
    """The arguments of a script in the order of ARGV. Raises `TypeError` for a missing or an unknown one."""
    names = ARGUMENTS[name]
    try:
        found = [arguments[argument] for argument in names]
    except KeyError:
        found = []
    if len(arguments) != len(names) or len(found) != len(names):
        raise TypeError(f"the script {name} takes {', '.join(names)}; got {', '.join(arguments)}")
    return found


@cache
def source(name: str) -> str:
    """The text of a script: locals for its keys and arguments, the shared parts, and the script's file."""
    folder = files("chatbot.sessions") / "scripts"
    parts = ("_session", *_PARTS.get(name, ()), name)
    return "".join([_prelude(name), *((folder / f"{part}.lua").read_text("utf-8") for part in parts)])


def _prelude(name: str) -> str:
    arguments = ARGUMENTS[name]
    if name in _OF_API_KEY:
        return _head(ApiKeyKeys._fields, arguments)
    if name in _OF_ADDRESS:
        return _head(SharedKeys._fields, arguments)
    if name in _OF_MANY:
        keys = (*SharedKeys._fields, *(("swept",) if name == "sweep" else ()))
        return f"{_head(keys, arguments)}{_TAGGED}{_select_session(_OF_MANY[name])}"
    return f"{_head(SessionKeys._fields, arguments)}{_TAGGED}"


#: What the tag of a script's keys is, if they have one: then a session's events are published on a sharded channel, to
#: subscribers of the node that has the tag's slot.
_TAGGED = (
    "local tag = string.match(ledger, '^chat:{(.+)}:')\n"
    "local function publish_event(channel, event)\n"
    "  redis.call(tag and 'SPUBLISH' or 'PUBLISH', channel, event)\nend\n"
)


def _select_session(used: Sequence[str]) -> str:
    """A function that sets the locals of the named session's keys, those that are `used`."""
    values = ", ".join(f"prefix .. '{SUFFIXES[name]}'" for name in used)
    without, within = (session_prefix("%s", tag).replace("%s", "' .. id .. '") for tag in ("", "<tag>"))
    within = within.replace("<tag>", "' .. tag .. '")
    return (
        f"local session, events, fence, {', '.join(SUFFIXES)}\nlocal function select_session(id)\n"
        f"  local prefix = tag and '{within}' or '{without}'\n"
        f"  session, events = id, prefix .. '{EVENTS}'\n  {', '.join(used)} = {values}\nend\n"
    )


def _head(keys: Sequence[str], arguments: Sequence[str]) -> str:
    numbers = (len(SUFFIXES), len(keys), len(arguments))
    return (
        f"{_locals(keys, 'KEYS')}{_locals(arguments, 'ARGV')}"
        f"local own_keys, named_keys, named_arguments = {', '.join(map(str, numbers))}\n"
    )


def _locals(names: Sequence[str], table: str) -> str:
    return f"local {', '.join(names)} = {', '.join(f'{table}[{i}]' for i in range(1, len(names) + 1))}\n"
