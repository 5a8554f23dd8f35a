"""Who sends a request to `/v1`, and what the caller may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flask import g

from chatbot.api_keys.keys import ApiKey
from chatbot.sessions.buckets import Bucket
from chatbot.web.answers import authorization
from chatbot.web.services import services


@dataclass(frozen=True)
class Principal:
    """A caller of `/v1`."""

    #: The name of the sessions that the caller makes, and what reads them needs the same one.
    name: str = "api"
    #: Buckets of which each request takes tokens, besides those of its session and address.
    buckets: Sequence[Bucket] = field(default=())
    #: The models that the caller may name; None for all.
    models: frozenset[str] | None = None
    #: The API key, None where no key is required. `services().key_access.accept` takes it.
    key: ApiKey | None = None


ANONYMOUS = Principal()


def identify() -> Principal:
    """The caller of the current request, from its Authorization header. Raises `ClientError` for one that is refused.

    Without API keys every caller is the same one, and any key is taken.
    """
    key = services().key_access.caller(authorization())
    if key is None:
        return ANONYMOUS
    return Principal(f"key:{key.id}", models=None if key.models is None else frozenset(key.models), key=key)


def principal() -> Principal:
    """The caller of the current request, identified once."""
    if "principal" not in g:
        g.principal = identify()
    found: Principal = g.principal
    return found
