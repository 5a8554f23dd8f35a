"""Where settings come from: the environment of this process, the file `.env`, or the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from chatbot.config.reader import read_env_file

#: Variables that follow from the command line.
_implied: set[str] = set()


def describe_sources(names: Sequence[str]) -> str:
    """Which of the variables are set and where: "MODEL_URL from the environment, MODEL_NAME from .env".

    Empty if none is set. The environment wins over `.env`; of a variable with one value in both, `.env` is named.
    """
    file = read_env_file()
    given = {name: os.environ[name] for name in names if os.environ.get(name, "").strip() and name not in _implied}
    return ", ".join(f"{name} from {_source(value, file.get(name))}" for name, value in given.items())


def imply(name: str, value: str) -> None:
    """Sets a variable that follows from the command line, where nobody has written it."""
    os.environ[name] = value
    _implied.add(name)


def _source(value: str, in_file: str | None) -> str:
    if value in sys.argv[1:]:  # a bot
        return "the command line"
    return ".env" if value == in_file else "the environment"
