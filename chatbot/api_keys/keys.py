"""API keys: who may use `/v1`, and how much. Redis holds a hash of each key, never the key."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import redis

from chatbot.errors import ChatbotError
from chatbot.store.errors import store_errors
from chatbot.store.keys import API_KEYS, api_key_keys
from chatbot.store.scripts import Value

Counted = Literal["requests", "tokens"]
Period = Literal["minute", "day", "month"]

#: What every key begins with, so that scanners of repositories find a leaked one.
PREFIX = "sk-chat-"
#: 256 bits: too many to guess, so that a plain hash protects a key.
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}\Z")
_MOST = 10**12
#: What failed, in the log, when Redis did.
_STEP = "API keys"


class InvalidKey(ChatbotError):
    """A name or a limit of a key makes no sense; the message is for the operator."""


@dataclass(frozen=True)
class ApiKey:
    """One key. A limit that was not set is absent."""

    id: str
    name: str
    created: str
    revoked: str | None = None
    #: None: every model.
    models: tuple[str, ...] | None = None
    limits: dict[tuple[Counted, Period], int] = field(default_factory=dict)


class ApiKeys:
    """Every method raises `StoreUnavailable` when Redis fails."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def create(
        self, name: str, limits: dict[tuple[Counted, Period], int], models: tuple[str, ...] | None = None
    ) -> tuple[ApiKey, str]:
        """A new key, and its secret, which is stored nowhere. Raises `InvalidKey`."""
        if not _NAME.match(name):
            raise InvalidKey(
                "a name has 1 to 64 letters, digits, spaces and . _ @ -, and begins with a letter or digit"
            )
        if any(not 0 < limit <= _MOST for limit in limits.values()):
            raise InvalidKey(f"a limit is between 1 and {_MOST}")
        if any(known.name == name and not known.revoked for known in self.all()):
            raise InvalidKey(f"a key named {name!r} exists: revoke it, or choose another name")
        secret = PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        key = ApiKey(key_id(secret), name, _now(), None, models, limits)
        facts: dict[str, Value] = {
            "hash": _digest(secret),
            "name": name,
            "created": key.created,
            **({} if models is None else {"models": "\n".join(models)}),
            **{f"{counted}_{period}": limit for (counted, period), limit in limits.items()},
        }
        with store_errors(_STEP), self._client.pipeline(transaction=False) as pipeline:
            pipeline.hset(api_key_keys(key.id).facts, mapping=dict(facts))  # type: ignore[arg-type]  # a dict is invariant
            pipeline.hset(API_KEYS, key.id, name)
            pipeline.execute()
        return key, secret

    def find(self, secret: str) -> ApiKey | None:
        """The key with this secret; None when it is unknown or revoked. Asks Redis each time, so no process is late."""
        with store_errors(_STEP):
            facts: Any = self._client.hgetall(api_key_keys(key_id(secret)).facts)
        if not facts or not hmac.compare_digest(facts.get("hash", ""), _digest(secret)):
            return None
        key = _key(key_id(secret), facts)
        return None if key.revoked else key

    def all(self) -> Iterator[ApiKey]:
        """All keys, revoked ones too, by name and age."""
        with store_errors(_STEP):
            ids = sorted(map(str, self._client.hkeys(API_KEYS)))
            with self._client.pipeline(transaction=False) as pipeline:
                for id_ in ids:
                    pipeline.hgetall(api_key_keys(id_).facts)
                found: list[dict[str, str]] = pipeline.execute()
        keys = [_key(id_, facts) for id_, facts in zip(ids, found, strict=True) if facts]
        yield from sorted(keys, key=lambda key: (key.name, key.created))

    def revoke(self, name_or_id: str) -> ApiKey | None:
        """Revokes a key: every process refuses it from then on. None when it is unknown or revoked already."""
        for key in self.all():
            if name_or_id in (key.id, key.name) and not key.revoked:
                with store_errors(_STEP):
                    self._client.hset(api_key_keys(key.id).facts, "revoked", _now())
                return key
        return None


def key_id(secret: str) -> str:
    """The id of a key: the beginning of its hash. It opens nothing."""
    return _digest(secret)[:16]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _key(id_: str, facts: dict[str, str]) -> ApiKey:
    limits = {
        (counted, period): int(facts[f"{counted}_{period}"])
        for counted in get_args(Counted)
        for period in get_args(Period)
        if f"{counted}_{period}" in facts
    }
    models = facts.get("models")
    return ApiKey(
        id_,
        facts.get("name", ""),
        facts.get("created", ""),
        facts.get("revoked"),
        None if models is None else tuple(models.split("\n")),
        limits,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
