"""Whether a Redis can be used: the rights of its user, RedisJSON, and whether it takes writes.

Rights are asked for within MULTI: Redis checks them when it queues a command, and DISCARD runs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from chatbot.store.cluster.client import ClusterClient
from chatbot.store.keys import session_keys
from chatbot.store.sentinel import is_sentinel

_SECTION = '"A user with few rights"'
#: The rules of a user of Redis that is used for nothing else.
LEAST_ACL = (
    "~chat:* ~celery* ~_kombu* ~canary* ~*.pidbox* &chat:* &/0.celery.pidbox &/0.celeryev/* "
    "~{celery}:* &{celery}:/0.celery.pidbox &{celery}:/0.celeryev/* "
    "+@read +@write +@pubsub +@scripting +@transaction +@connection "
    "+json.set +json.get +json.del +json.arrappend +json.arrlen +json.arrtrim +json.strlen +json.debug +json.type "
    "-@admin -@dangerous +info +time +wait +cluster|slots +cluster|info"
)

_keys = session_keys("access")
_D, _S, _L = _keys.document, _keys.state, _keys.pending
#: What web and workers do with the Redis of the sessions; the second word is the key or the channel.
SESSION_COMMANDS = (
    f"JSON.SET {_D} . 1|JSON.GET {_D}|JSON.DEL {_D}|JSON.ARRAPPEND {_D} . 1|JSON.ARRLEN {_D} .|JSON.ARRTRIM {_D} . 0 1|"
    f"JSON.TYPE {_D}|JSON.STRLEN {_D} .|JSON.DEBUG MEMORY {_D}|"
    f"GET {_S}|SET {_S} 1|INCR {_S}|APPEND {_S} x|STRLEN {_S}|DEL {_S}|EXISTS {_S}|PEXPIRE {_S} 1|PTTL {_S}|"
    f"HGET {_S} x|HSET {_S} x 1|HSETNX {_S} x 1|HMGET {_S} x|HGETALL {_S}|HKEYS {_S}|HLEN {_S}|HDEL {_S} x|"
    f"HSCAN {_S} 0|HEXISTS {_S} x|HINCRBY {_S} x 1|HINCRBYFLOAT chat:metrics x 1|"
    f"RPUSH {_L} x|LPOP {_L}|LINDEX {_L} 0|LLEN {_L}|LPOS {_L} x|LREM {_L} 1 x|LRANGE {_L} 0 1|LSET {_L} 0 x|"
    "ZADD chat:ledger 1 x|ZREM chat:ledger x|ZCARD chat:waiting|ZCOUNT chat:waiting 0 1|ZRANGE chat:waiting 0 1|"
    "ZRANGEBYSCORE chat:ledger 0 1|ZREMRANGEBYSCORE chat:workers 0 1|ZSCORE chat:ledger x|"
    "PUBLISH chat:access x|SUBSCRIBE chat:access|PUBSUB NUMSUB chat:access|"
    f"EVALSHA {'0' * 40} 1 {_S}|SCRIPT LOAD x|SCAN 0|TIME|INFO memory|WAIT 0 1"
)
#: What they do besides in a Redis Cluster.
_CLUSTER_COMMANDS = "CLUSTER SLOTS|CLUSTER INFO|SSUBSCRIBE chat:{access}:events|SPUBLISH chat:{access}:events x"
#: What Celery's transport does with the Redis of the queue, in database 0.
_QUEUE_COMMANDS = (
    "BRPOP celery 1|RPUSH celery x|LPUSH celery x|LLEN celery|DEL celery|SADD _kombu.binding.celery x|"
    "SREM _kombu.binding.celery x|SMEMBERS _kombu.binding.celery|LPUSH canary x|RPUSH access.reply.celery.pidbox x|"
    "PUBLISH /0.celeryev/worker.heartbeat x|SUBSCRIBE /0.celery.pidbox|PSUBSCRIBE /0.celery.pidbox"
)
JSON_MISSING = "RedisJSON is missing: use Redis 8, or load the module"
#: Commands whose key stands behind a part of their name.
_TWO_WORDS = ("JSON.DEBUG MEMORY", "PUBSUB NUMSUB", "SCRIPT LOAD", "CLUSTER SLOTS", "CLUSTER INFO")
_REFUSED = "Redis refuses the user or the password: correct {}, or REDIS_USER and REDIS_PASSWORD"
_UNKNOWN = "this Redis does not know {}: remove the rename-command of its configuration"
_DISK = (
    "Redis takes no writes, as it cannot save its data: see its log, and make room on its disk or correct its rights"
)
#: By a part of redis-py's error text: what it means for the operator, who set the variable.
_MEANINGS = (
    ("loading", "Redis is still loading its data"),
    ("DB index", "Redis has no database of this number: end {} with /0"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "Redis' certificate is not accepted: name its authority with ?ssl_ca_certs=FILE in {}",
    ),
    (
        ("reset by peer", "Broken pipe", "closed by server"),
        "Redis hangs up: if it has TLS, begin {} with rediss://; if it is in protected mode, it needs a password, or "
        "to be reached at 127.0.0.1",
    ),
)
_NO_TLS = " (if this Redis has no TLS, begin {} with redis://)"


def queue_commands(db: int, prefix: str = "") -> str:
    """What Celery's transport does with the Redis of the queue in database `db`, whose number its channels name.

    `prefix` stands before each name of a key or a channel.
    """
    commands = _QUEUE_COMMANDS.replace(" /0.", f" /{db}.")
    return "|".join(command.replace(" ", f" {prefix}", 1) for command in commands.split("|"))


def find_problem(client: redis.Redis, commands: str, variable: str) -> str | None:
    """A sentence that says why the Redis that `variable` names cannot be used; None if it can.

    Of a Redis Cluster every master is asked, or those of the client's slots. Raises redis-py's `ConnectionError` and
    `TimeoutError` when it does not answer.
    """
    if not isinstance(client, ClusterClient):
        return _find_problem(client, commands, variable)
    try:
        masters = client.masters()
    except AuthenticationError:
        return _REFUSED.format(variable)
    for node in masters:
        own = redis.Redis(connection_pool=client.connection_pool.of(node))
        if problem := _find_problem(own, f"{commands}|{_CLUSTER_COMMANDS}", variable, cluster=True):
            return problem if len(masters) == 1 else f"{node}: {problem}"
    return None


def unreachable(error: redis.RedisError, url: str, variable: str) -> str:
    """A sentence for an error that `find_problem` raised for a client of this URL, which `variable` names."""
    text = str(error)
    for parts, sentence in _MEANINGS:
        if any(part in text for part in ((parts,) if isinstance(parts, str) else parts)):
            return sentence.format(variable)
    hint = _NO_TLS.format(variable) if url.startswith("rediss:") else ""
    return f"no {'master' if is_sentinel(url) else 'Redis'} answers where {variable} says: {text}{hint}"


def _find_problem(client: redis.Redis, commands: str, variable: str, *, cluster: bool = False) -> str | None:
    try:
        answers, info = _ask(client, [command.split(" ") for command in commands.split("|")])
    except NoPermissionError:
        return f"the user of {variable} may not use MULTI; give it the rights of docs/operations.md, {_SECTION}"
    except AuthenticationError:
        return _REFUSED.format(variable)
    except ResponseError as error:
        if "unknown command" not in str(error):
            raise
        return _UNKNOWN.format("MULTI")
    except redis.ConnectionError as error:
        if "no longer the master" in str(error):
            return f"Redis takes no writes: it is a replica ({variable} must name the master), or lacks replicas"
        raise
    if not cluster and "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        return f"Redis is part of a Redis Cluster: begin {variable} with redis+cluster:// (rediss+cluster:// for TLS)"
    return _refusal(list(zip(commands.split("|"), answers, strict=True)), variable)


def _refusal(answers: Sequence[tuple[str, Any]], variable: str) -> str | None:
    """A sentence about the commands that Redis refused when it queued them; None if it refused none for good."""
    missing: dict[str, list[str]] = {}
    unknown = set()
    for command, answer in answers:
        if isinstance(answer, NoPermissionError):
            name, subject = _name(command, str(answer))
            missing.setdefault(subject, []).append(name)
        elif isinstance(answer, ResponseError) and "unknown command" in str(answer):
            unknown.add(command.partition(" ")[0])
    if missing:
        listed = "; ".join(f"{subject} {', '.join(names)}" for subject, names in missing.items())
        listed += f"; give it those of docs/operations.md, {_SECTION}"
        return f"the user of {variable} lacks rights: {listed}"
    if unknown:
        only_json = all(name.startswith("JSON.") for name in unknown)
        return JSON_MISSING if only_json else _UNKNOWN.format(", ".join(sorted(unknown)))
    if any(isinstance(answer, ResponseError) and str(answer).startswith("MISCONF") for _, answer in answers):
        return _DISK
    return None


def _ask(client: redis.Redis, commands: Sequence[Sequence[str]]) -> tuple[list[Any], dict[str, Any]]:
    """The answers of a transaction that queues `commands`, errors included, and INFO's, {} without the right to it.

    Raises the `ResponseError` of a Redis that begins none, as the commands would run.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command("MULTI")
        if isinstance(begun := _read(connection), ResponseError):
            raise begun
        connection.send_packed_command(connection.pack_commands([*commands, ("DISCARD",)]))
        answers = [_read(connection) for _ in range(len(commands) + 1)][:-1]
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
    try:
        return answers, client.info("server")
    except ResponseError:
        return answers, {}


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except AuthenticationError:
        raise
    except ResponseError as error:
        return error


def _name(command: str, error: str) -> tuple[str, str]:
    """A command that was refused, and what for: `the command`, or its key or channel."""
    name = next((words for words in _TWO_WORDS if command.startswith(words)), command.partition(" ")[0])
    subject = command.removeprefix(name).strip().partition(" ")[0]
    if "command" in error or not subject:
        return name, "the command"
    return name, f"the {'channel' if 'channel' in error else 'key'} {subject} for"
