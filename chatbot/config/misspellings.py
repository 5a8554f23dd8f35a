"""Finds variables that are no settings, though somebody meant one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

from chatbot.config.reader import ALIASES, read_env_file, variables
from chatbot.errors import ConfigurationError

#: How much two names must have in common for one to count as a misspelling of the other: in the environment, which
#: holds the variables of other programs too, and in `.env`.
_SIMILARITY, _SIMILARITY_IN_FILE = 0.85, 0.7
#: Characters: shorter names in the environment are similar to too many others.
_SHORTEST_MISSPELLING = 6
#: A variable of Flower's own that resembles a setting.
_RESEMBLING = {"FLOWER_UNAUTHENTICATED_API"}
#: Settings of `make run` alone.
_OF_MAKE_RUN = {"LOCAL_MODEL_PORT", "LOCAL_DATA_DIR"}
#: What libraries and servers read themselves.
_FOREIGN = re.compile(
    r"(COMPOSE|DOCKER|OTEL|GUNICORN|CELERY|FLOWER|FLASK|REQUESTS|CURL|SSL|OPENSSL|PROMETHEUS|GEVENT|REDISCLI)_|PYTHON|LC_|LD_|MALLOC_"
    r"|(TZ|LANG|PATH|HOME|TMPDIR|USER|LOGNAME|NO_COLOR|FORCE_COLOR|TERM|SCRIPT_NAME|SENDFILE|FORWARDED_ALLOW_IPS)\Z"
    r"|\w+_PROXY\Z"
)


def misspelled(environ: Mapping[str, str], *more: str) -> list[tuple[str, str | None]]:
    """Variables that are no setting and none of `more`, each with the nearest one's name, if there is one.

    Of the environment those that look like a setting; of `.env`, which is this program's own file, all that no library
    reads. A bot may read others from it.
    """
    known = {variable for variable, _, _ in variables()} | set(ALIASES.values()) | _RESEMBLING | _OF_MAKE_RUN
    known |= set(more)
    in_file: Collection[str] = ()
    with suppress(ConfigurationError):
        in_file = read_env_file().keys()
    return [*_found(environ, known, in_file, bot=bool(environ.get("MODEL_CALLABLE", "").strip()))]


def _found(
    names: Iterable[str], known: set[str], in_file: Collection[str], *, bot: bool
) -> Iterator[tuple[str, str | None]]:
    for name in names:
        if name in known:
            continue
        own = name in in_file and not bot
        nearest = _nearest(name, known, _SIMILARITY_IN_FILE if own else _SIMILARITY, short=own)
        if nearest is not None or (own and not _FOREIGN.match(name.upper())):
            yield name, nearest


def _nearest(name: str, known: set[str], similarity: float, *, short: bool) -> str | None:
    """The setting that was meant by the name; `short` names are compared like others."""
    if name.upper() in known:
        # `host` may be anything's.
        return name.upper() if short or "_" in name else None
    if not short and len(name) < _SHORTEST_MISSPELLING:
        return next((setting for setting in sorted(known) if _is_slip(name, setting)), None)
    nearest = difflib.get_close_matches(name.upper() if short else name, known, 1, similarity)
    return nearest[0] if nearest else None


def _is_slip(name: str, setting: str) -> bool:
    """Whether a letter is doubled, or two neighbours have changed places: nobody gives a variable such a name."""
    doubled = {setting[: at + 1] + setting[at:] for at in range(len(setting))}
    swapped = {setting[:at] + setting[at + 1] + setting[at] + setting[at + 2 :] for at in range(len(setting) - 1)}
    return name in doubled | swapped
