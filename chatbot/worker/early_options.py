"""Options of `celery worker` that Celery acts on before it starts a worker. This module imports nothing of Celery."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Sequence


def refuse_early(arguments: Sequence[str]) -> None:
    """Ends the process for options over which Celery would end it with a traceback."""
    refuse_pool(arguments)
    for option, find in (("--uid", pwd.getpwnam), ("--gid", grp.getgrnam)):
        name = chosen(arguments, option)
        if name and not name.isdecimal() and not _found(find, name):
            raise SystemExit(f"{option} {name}: this machine has no such name, correct it")


def refuse_pool(arguments: Sequence[str]) -> None:
    """Ends the process if its arguments choose another pool than threads."""
    if chosen(arguments, "-P", "--pool") not in (None, "threads"):
        raise SystemExit("-P: this program's workers are made for threads alone: leave -P out")


def chosen(arguments: Sequence[str], *names: str) -> str | None:
    """The value of an option as it was written, or None: Celery replaces prefork, its default, with this program's."""
    value = None
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        for name in names:
            if argument == name:
                value = following
            elif name.startswith("--") and argument.startswith(f"{name}="):
                value = argument.removeprefix(f"{name}=")
            elif not name.startswith("--") and argument.startswith(name) and not argument.startswith("--"):
                value = argument.removeprefix(name)
    return value


def _found(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
