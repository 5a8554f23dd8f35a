"""Where settings come from: the environment of this process, or the file `.env`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from chatbot.config.reader import read_env_file


def describe_sources(names: Sequence[str]) -> str:
    """Which of the variables are set and where: "MODEL_NAME from .env, MODEL_URL from the environment".

    Empty if none is set. The environment wins over `.env`; of a variable with one value in both, `.env` is named.
    """
    file = read_env_file()
    given = {name: os.environ[name] for name in names if os.environ.get(name, "").strip()}
    found = {name: ".env" if file.get(name) == value else "the environment" for name, value in given.items()}
    return ", ".join(f"{name} from {source}" for name, source in found.items())
