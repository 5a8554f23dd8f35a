"""Options of `celery worker` that Celery acts on before it starts a worker. This module imports nothing of Celery."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Mapping, Sequence

#: Options of `celery` itself that have no use here, and what to do without them.
_REFUSED = (
    (("-b", "--broker"), "web would not use this broker: set CELERY_BROKER_URL"),
    (("--result-backend",), "no results are stored: leave it out"),
    (("--config", "--loader"), "settings come from the environment: leave it out"),
)
_VARIABLES = ("CELERY_CONFIG_MODULE", "CELERY_LOADER")


def refuse_early(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Ends the process for options over which Celery would end it with a traceback, or that would do harm."""
    refuse_pool(arguments)
    for names, sentence in _REFUSED:
        if chosen(_own(arguments), *names) is not None:
            raise SystemExit(f"{names[0]}: {sentence}")
    for variable in _VARIABLES:
        if environ.get(variable):
            raise SystemExit(f"{variable} has no use here, as settings come from the environment: remove it")
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


def _own(arguments: Sequence[str]) -> Sequence[str]:
    """Celery's own options, which stand before the command: those of the command may have the same names."""
    return arguments[: next((at for at, word in enumerate(arguments) if word in ("worker", "flower")), 0)]


def _found(find: Callable[[str], object], name: str) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
