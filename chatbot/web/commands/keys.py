"""What an operator does with API keys: `flask --app wsgi keys …`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import get_args

import click
import redis

from chatbot.api_keys import usage
from chatbot.api_keys.keys import ApiKey, ApiKeys, Counted, InvalidKey, Period
from chatbot.web.commands.store_command import StoreCommand
from chatbot.web.key_access import KeyAccess

_LIMIT = re.compile(rf"(\d{{1,12}})/({'|'.join(get_args(Period))})\Z")


class _Limit(click.ParamType[tuple[Period, int]]):
    name = "N/PERIOD"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Period, int]:
        found = _LIMIT.match(value)
        if found is None:
            self.fail(f"{value!r} is no limit: write it as 60/minute, 1000/day or 100000/month", param, ctx)
        period: Period = found[2]  # type: ignore[assignment]
        return period, int(found[1])


def key_commands(access: KeyAccess, client: redis.Redis) -> click.Group:
    """The group of commands, to be added to the application's."""
    keys = click.Group("keys", help="API keys: who may use /v1, and how much.")
    for command in (_create(access), _list(access), _revoke(access), _usage(access, client)):
        keys.add_command(command)
    return keys


def _create(access: KeyAccess) -> click.Command:
    @click.command("create", cls=StoreCommand)
    @click.argument("name")
    @click.option("--requests", type=_Limit(), multiple=True, help="Requests, as 60/minute, 1000/day, 20000/month.")
    @click.option("--tokens", type=_Limit(), multiple=True, help="Tokens of prompts and replies, likewise.")
    @click.option("--model", "models", multiple=True, help="A model that the key may use; all without this option.")
    def create(
        name: str, requests: Sequence[tuple[Period, int]], tokens: Sequence[tuple[Period, int]], models: tuple[str, ...]
    ) -> None:
        """Make a key for NAME and print it. It is shown this once, and is stored nowhere."""
        for option, given in (("--requests", requests), ("--tokens", tokens)):
            if len({period for period, _ in given}) < len(given):
                raise click.UsageError(f"{option} names a period twice: give each once")
        limits: dict[tuple[Counted, Period], int] = {("requests", period): limit for period, limit in requests}
        limits |= {("tokens", period): limit for period, limit in tokens}
        try:
            key, secret = access.keys.create(name, limits, models or None)
        except InvalidKey as error:
            raise click.ClickException(str(error)) from None
        click.echo(f"id {key.id}, {_limits(key)}", err=True)
        click.echo(secret)

    return create


def _list(access: KeyAccess) -> click.Command:
    @click.command("list", cls=StoreCommand)
    def list_keys() -> None:
        """List all keys with their limits."""
        for key in access.keys.all():
            state = f"revoked {key.revoked}" if key.revoked else "valid"
            click.echo(f"{key.id}  {key.name:<20}  created {key.created}  {state}  {_limits(key)}")

    return list_keys


def _revoke(access: KeyAccess) -> click.Command:
    @click.command("revoke", cls=StoreCommand)
    @click.argument("name_or_id")
    def revoke(name_or_id: str) -> None:
        """Revoke a key, by its name or its id. All processes refuse it from now on; its usage is kept."""
        key = access.keys.revoke(name_or_id)
        if key is None:
            raise click.ClickException("there is no such key, or it was revoked before")
        click.echo(f"revoked {key.name}, id {key.id}")

    return revoke


def _usage(access: KeyAccess, client: redis.Redis) -> click.Command:
    @click.command("usage", cls=StoreCommand)
    @click.argument("name_or_id", required=False)
    @click.option("--days", type=click.IntRange(1, 400), default=7, show_default=True, help="Days, today first.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def show_usage(name_or_id: str | None, days: int, as_json: bool) -> None:
        """Show what keys used on each day and this month, in UTC."""
        access.charges.settle()
        for key in _named(access.keys, name_or_id):
            rows = usage.read_days(client, key.id, usage.days(days))
            rows = [row for row in rows if row.requests or row.failed or row.reserved_requests]
            for row in (*rows, usage.read_month(client, key.id, usage.this_month())):
                click.echo(_json_row(key, row) if as_json else _row(key, row))

    return show_usage


def _named(keys: ApiKeys, name_or_id: str | None) -> list[ApiKey]:
    found = [key for key in keys.all() if name_or_id in (None, key.id, key.name)]
    if name_or_id is not None and not found:
        raise click.ClickException("there is no such key")
    return found


def _limits(key: ApiKey) -> str:
    limits = [f"{limit} {counted}/{period}" for (counted, period), limit in key.limits.items()]
    models = "all models" if key.models is None else f"models {', '.join(key.models)}"
    return f"{', '.join(limits) or 'no limits'}, {models}"


def _row(key: ApiKey, row: usage.KeyUsage) -> str:
    return (
        f"{key.name:<20}  {row.period:<10}  {row.requests} requests, {row.failed} failed, "
        f"{row.prompt_tokens} prompt tokens ({row.cached_tokens} cached), {row.completion_tokens} completion tokens; "
        f"reserved: {row.reserved_requests} requests, {row.reserved_tokens} tokens"
    )


def _json_row(key: ApiKey, row: usage.KeyUsage) -> str:
    return json.dumps({"key": key.name, "id": key.id, **asdict(row)})
