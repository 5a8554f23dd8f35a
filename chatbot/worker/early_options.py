"""Options of `celery worker` that Celery acts on before it starts a worker. This module imports nothing of Celery."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Sequence
from typing import Any

#: Options of `celery` itself that have no use here, and what to do without them.
_REFUSED = (
    (("-b", "--broker"), "web would not use this broker: set CELERY_BROKER_URL"),
    (("--result-backend",), "no results are stored: leave it out"),
    (("--config", "--loader"), "settings come from the environment: leave it out"),
)
_MOST_SLOTS = 10_000


def refuse_early(arguments: Sequence[str]) -> None:
    """Ends the process for options over which Celery would end it with a traceback, or that would do harm."""
    refuse_pool(arguments)
    if "worker" in arguments and (slots := chosen(arguments, "-c", "--concurrency")) is not None:
        # Celery takes 0 for none given.
        refuse_slots(slots)
    for names, sentence in _REFUSED:
        if chosen(_own(arguments), *names) is not None:
            raise SystemExit(f"{names[0]}: {sentence}")
    for option, by_name, by_number in (
        ("--uid", pwd.getpwnam, pwd.getpwuid),
        ("--gid", grp.getgrnam, grp.getgrgid),
    ):
        name = chosen(arguments, option)
        if name and not (_found(by_number, int(name[:9])) if name.isdecimal() else _found(by_name, name)):
            raise SystemExit(f"{option} {name}: this machine has no such name, correct it")


def refuse_pool(arguments: Sequence[str]) -> None:
    """Ends the process if its arguments choose a pool of Celery's that is not replaced by this program's."""
    if chosen(arguments, "-P", "--pool") not in (None, "threads"):
        raise SystemExit("-P: all replies of a worker run in one process, in a pool of this program: leave -P out")


def refuse_slots(number: str) -> None:
    """Ends the process if a worker cannot generate so many replies at a time."""
    if not (number.isascii() and number.isdecimal() and 1 <= int(number[:9]) <= _MOST_SLOTS):
        raise SystemExit(f"-c is how many replies a worker generates at a time: write a number from 1 to {_MOST_SLOTS}")


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


def _found(find: Callable[[Any], object], name: str | int) -> bool:
    try:
        find(name)
    except KeyError:
        return False
    return True
