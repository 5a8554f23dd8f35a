"""The texts of the Lua scripts in `chatbot/sessions/scripts`: their keys, arguments and shared parts.

A script has its keys and arguments as locals, under the names in keys.py and in `ARGUMENTS`. A file whose name begins
with `_` is a part: each of its functions stands before those scripts that use it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple, TypeVar

from chatbot.store.keys import EVENTS, SUFFIXES, ApiKeyKeys, SessionKeys, SharedKeys, session_prefix

T = TypeVar("T")

_ADMIT = (
    *("session", "message", "ttl_ms", "max_pending", "check_after_ms", "max_wait_ms"),
    *("on_busy", "stop_channel", "charge", "elsewhere", "queue", "task", "trace"),
)
_HISTORY = ("max_history", "max_history_bytes")
_LEASE = ("lease_ms", "grace_ms", "owner")
_SETTLE = (
    *("session", "fence", "message", "go_on", "prompt_size", "events", "frame", "ttl_ms", "usage"),
    *("trace", "attempt"),
    *_LEASE,
)
#: The arguments of each script. All are strings in Lua. A name means the same in every script, as shared functions
#: read them: `message` is a message's id, `events` a session's channel, `owner` the channel of a worker process.
ARGUMENTS = {
    "create": ("content", "ttl_ms", "max_age_ms"),
    "import": ("content", "further", "ttl_ms", "max_age_ms"),
    "read": ("before", "limit", "page_bytes", "ttl_ms"),
    "accept": (*_ADMIT, "content", "events", "parent_id", "sibling", *_HISTORY),
    "regenerate": (*_ADMIT, "of", "events"),
    "select": ("message", "events", "ttl_ms"),
    "feedback": ("message", "content", "frame", "events", "ttl_ms"),
    "retry": _ADMIT,
    "stop": ("session", "stop_channel", "ttl_ms"),
    "request": ("message", "ttl_ms"),
    "path": ("message", "prompt_size", "ttl_ms"),
    "cancel": ("session", "message", "stop_channel", "failure", "frame", "events", "ttl_ms"),
    "forget": ("message", "ttl_ms"),
    "snapshot": ("after", "position", "page_messages", "page_bytes", "ttl_ms"),
    "add_socket": ("field", "most"),
    "end": ("session", "events"),
    "give_up": ("session", "attempts", "wrong_type", "events", "ttl_ms"),
    "claim": ("session", "prompt_size", "attempt", *_LEASE),
    "progress": _LEASE,
    "commit": (*_SETTLE, "reply_id", "reply", "last_delta", *_HISTORY),
    "fail": (*_SETTLE, "failure"),
    "postpone": ("session", "fence", "delay_ms", "loading", "keep", "events", "frame"),
    "sweep": ("limit", "interval_ms", "lease_ms", "grace_ms", "first_wait_ms", "longest_wait_ms", "others", "settled"),
    "admit": ("session", "max_wait_ms"),
    "give_back": ("session", "stays"),
    "take": ("share",),
    "check_charge": ("message", "charge"),
    "reserve": ("charge", "tokens"),
    "settle": ("charge", "outcome", "prompt_tokens", "completion_tokens", "cached_tokens", "keep_ms"),
}
#: The scripts that work on many sessions, one after the other, with the keys that they use of each and name themselves.
_PROGRESS = ("document", "state", "partial", "partial_reasoning", "partial_calls", "lease")
_OF_MANY: dict[str, Sequence[str]] = {"progress": _PROGRESS, "sweep": tuple(SUFFIXES)}
#: The scripts that work on an address, for a session in another partition.
_OF_ADDRESS = ("admit", "give_back", "take")
#: The scripts that work on an API key, not on a session.
_OF_API_KEY = ("reserve", "settle")
#: The files with shared functions, each behind those that it uses.
_PARTS = (
    *("_session", "_rates", "_key_rates", "_pace", "_line", "_stop", "_admission"),
    *("_log", "_tree", "_reply", "_page", "_end"),
)
_DEFINITION = re.compile(r"local (?:function )?([\w, ]+)")
_NAME = re.compile(r"[A-Za-z_]\w*")
#: What holds no names: texts and comments.
_QUOTED = re.compile(r"'[^']*'|--.*")


class Line(NamedTuple):
    """A line of a script."""

    text: str
    #: The file in which it stands, without suffix, and its number there; '' for a line that is generated.
    part: str = ""
    number: int = 0


class Definition(NamedTuple):
    """A shared function, or values, with the comment before."""

    names: frozenset[str]
    lines: tuple[Line, ...]


def ordered(name: str, arguments: Mapping[str, T]) -> list[T]:
    """The arguments of a script in the order of ARGV. Raises `TypeError` for a missing or an unknown one."""
    names = ARGUMENTS[name]
    try:
        found = [arguments[argument] for argument in names]
    except KeyError:
        found = []
    if len(arguments) != len(names) or len(found) != len(names):
        raise TypeError(f"the script {name} takes {', '.join(names)}; got {', '.join(arguments)}")
    return found


@cache
def source(name: str) -> str:
    """The text of a script: locals for its keys and arguments, shared functions, and the script's file.

    A script has no functions and no names that it does not use, as Redis makes them anew at each call: with all of them
    a script takes about a fifth more time.
    """
    return "".join(f"{line.text}\n" for line in source_lines(name))


def source_lines(name: str) -> list[Line]:
    """The lines of `source`."""
    own = _lines(name)
    found, used = [own], _names(own)
    for definition in reversed([*_definitions(_generated(name)), *shared_definitions()]):
        if definition.names & used:
            found.append(definition.lines)
            used |= _names(definition.lines)
    head = _head(_keys(name), ARGUMENTS[name], used)
    return [*head, *(line for lines in reversed(found) for line in lines)]


@cache
def shared_definitions() -> tuple[Definition, ...]:
    """Those of all parts, in order."""
    return tuple(definition for part in _PARTS for definition in _definitions(_lines(part)))


def _definitions(lines: Sequence[Line]) -> Iterator[Definition]:
    """Every definition begins with `local` at the beginning of a line; a function ends with a line `end`."""
    begun: list[Line] = []
    for line in lines:
        begun.append(line)
        first = next((each.text for each in begun if each.text.startswith("local ")), None)
        if first is None:
            if not line.text:
                # What stood here is the comment of a file, not of what follows.
                begun = []
        elif line.text == "end" or not first.startswith("local function "):
            yield Definition(frozenset(_NAME.findall(_DEFINITION.match(first)[1])), tuple(begun))  # type: ignore[index]
            begun = []


def _lines(part: str) -> tuple[Line, ...]:
    text = (files("chatbot.sessions") / "scripts" / f"{part}.lua").read_text("utf-8")
    return tuple(Line(line, part, number) for number, line in enumerate(text.splitlines(), 1))


def _names(lines: Iterable[Line]) -> set[str]:
    return {name for line in lines for name in _NAME.findall(_QUOTED.sub("", line.text))}


def _keys(name: str) -> Sequence[str]:
    if name in _OF_API_KEY:
        return ApiKeyKeys._fields
    if name in _OF_ADDRESS:
        return SharedKeys._fields
    if name in _OF_MANY:
        return (*SharedKeys._fields, *(("swept",) if name == "sweep" else ()))
    return SessionKeys._fields


def _generated(name: str) -> list[Line]:
    """Definitions that stand before those of the parts."""
    numbers = (len(SUFFIXES), len(_keys(name)), len(ARGUMENTS[name]))
    text = f"local own_keys, named_keys, named_arguments = {', '.join(map(str, numbers))}\n{_TAGGED}"
    if name in _OF_MANY:
        text += _select_session(_OF_MANY[name])
    return [Line(line) for line in text.splitlines()]


#: The tag of a script's keys, if they have one. Then events are published on a sharded channel, to subscribers of the
#: node with the tag's slot.
_TAGGED = (
    "local tag = string.match(ledger, '^chat:{(.+)}:')\n"
    "local function publish_event(channel, event)\n"
    "  redis.call(tag and 'SPUBLISH' or 'PUBLISH', channel, event)\nend\n"
)


def _select_session(used: Sequence[str]) -> str:
    """A function that sets the locals of the named session's keys, those that are `used`."""
    values = ", ".join(f"prefix .. '{SUFFIXES[name]}'" for name in used)
    without, within = (session_prefix("%s", tag).replace("%s", "' .. id .. '") for tag in ("", "<tag>"))
    within = within.replace("<tag>", "' .. tag .. '")
    return (
        f"local session, events, fence, {', '.join(SUFFIXES)}\nlocal function select_session(id)\n"
        f"  local prefix = tag and '{within}' or '{without}'\n"
        f"  session, events = id, prefix .. '{EVENTS}'\n  {', '.join(used)} = {values}\nend\n"
    )


def _head(keys: Sequence[str], arguments: Sequence[str], used: Collection[str]) -> list[Line]:
    """Locals for the keys and arguments that are used."""
    values = [*_values(keys, "KEYS"), *_values(arguments, "ARGV")]
    named = [(name, value) for name, value in values if name in used]
    if not named:
        return []
    return [Line(f"local {', '.join(name for name, _ in named)} = {', '.join(value for _, value in named)}")]


def _values(names: Sequence[str], table: str) -> list[tuple[str, str]]:
    return [(name, f"{table}[{index}]") for index, name in enumerate(names, 1)]
