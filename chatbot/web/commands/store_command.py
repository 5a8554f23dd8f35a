"""Commands of the operator that use Redis: one that cannot says why in one sentence."""

from __future__ import annotations

from typing import Any

import click
import redis

from chatbot.config import load_settings
from chatbot.errors import StoreUnavailable
from chatbot.store.access import SESSION_COMMANDS, find_problem, unreachable
from chatbot.store.client import connect


class StoreCommand(click.Command):
    """A command whose `StoreUnavailable` becomes an error of the command line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoreUnavailable as error:
            raise click.ClickException(_sentence(error)) from None


def _sentence(error: StoreUnavailable) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, redis.exceptions.OutOfMemoryError):
        return "Redis is full: raise its maxmemory, or end sessions"
    problems = filter(None, map(_problem, load_settings().redis.urls))
    return next(problems, f"Redis did not do it ({type(cause).__name__}): try again")


def _problem(url: str) -> str | None:
    client = connect(url, 1, retries=0)
    try:
        return find_problem(client, SESSION_COMMANDS, "REDIS_URL")
    except redis.RedisError as found:
        return unreachable(found, url, "REDIS_URL")
    finally:
        client.connection_pool.disconnect()
