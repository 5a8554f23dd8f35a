"""The option `-P` of `celery worker`: read before Celery acts on it, so this module imports nothing."""

from __future__ import annotations

from collections.abc import Sequence


def refuse_pool(arguments: Sequence[str]) -> None:
    """Ends the process if its arguments choose another pool than threads."""
    pool = chosen_pool(arguments)
    if pool is not None and pool != "threads":
        raise SystemExit("-P: this program's workers are made for threads alone: leave -P out")


def chosen_pool(arguments: Sequence[str]) -> str | None:
    """The pool as it was written, or None: Celery replaces prefork, its default, with the pool of this program."""
    chosen = None
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument in ("-P", "--pool"):
            chosen = following
        elif argument.startswith("--pool="):
            chosen = argument.removeprefix("--pool=")
        elif argument.startswith("-P"):
            chosen = argument.removeprefix("-P")
    return chosen
