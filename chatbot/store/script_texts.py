"""The texts of the Lua scripts in `chatbot/sessions/scripts`: their keys, arguments and shared parts.

A script has its keys and arguments as locals, under the names in keys.py and in `ARGUMENTS`. A file whose name begins
with `_` is a part: its functions stand before those scripts that name it in `_PARTS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TypeVar

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
    "sweep": ("limit", "interval_ms", "lease_ms", "grace_ms", "first_wait_ms", "longest_wait_ms", "others"),
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
#: What a script has before it besides `_session`.
_PARTS = {
    "import": ("_rates",),
    "read": ("_rates", "_log", "_tree", "_page"),
    "accept": ("_rates", "_pace", "_line", "_stop", "_admission", "_log", "_tree"),
    "retry": ("_rates", "_pace", "_line", "_stop", "_admission"),
    "regenerate": ("_rates", "_pace", "_line", "_stop", "_admission", "_log", "_tree"),
    "admit": ("_rates", "_pace", "_line"),
    "take": ("_rates",),
    "sweep": ("_pace", "_line"),
    "select": ("_log", "_tree"),
    "feedback": ("_log",),
    "stop": ("_stop",),
    "request": ("_log", "_tree"),
    "path": ("_log", "_tree", "_reply"),
    "cancel": ("_stop",),
    "forget": ("_log", "_tree"),
    "snapshot": ("_rates", "_log", "_tree", "_page"),
    "end": ("_end",),
    "give_up": ("_end",),
    "reserve": ("_key_rates",),
    "settle": ("_key_rates",),
    "claim": ("_pace", "_log", "_tree", "_reply"),
    "commit": ("_log", "_tree", "_reply"),
    "fail": ("_log", "_tree", "_reply"),
}


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
    """The text of a script: locals for its keys and arguments, the shared parts, and the script's file."""
    folder = files("chatbot.sessions") / "scripts"
    parts = ("_session", *_PARTS.get(name, ()), name)
    return "".join([_prelude(name), *((folder / f"{part}.lua").read_text("utf-8") for part in parts)])


def _prelude(name: str) -> str:
    arguments = ARGUMENTS[name]
    if name in _OF_API_KEY:
        return _head(ApiKeyKeys._fields, arguments)
    if name in _OF_ADDRESS:
        return _head(SharedKeys._fields, arguments)
    if name in _OF_MANY:
        keys = (*SharedKeys._fields, *(("swept",) if name == "sweep" else ()))
        return f"{_head(keys, arguments)}{_TAGGED}{_select_session(_OF_MANY[name])}"
    return f"{_head(SessionKeys._fields, arguments)}{_TAGGED}"


#: What the tag of a script's keys is, if they have one: then a session's events are published on a sharded channel, to
#: subscribers of the node that has the tag's slot.
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


def _head(keys: Sequence[str], arguments: Sequence[str]) -> str:
    numbers = (len(SUFFIXES), len(keys), len(arguments))
    return (
        f"{_locals(keys, 'KEYS')}{_locals(arguments, 'ARGV')}"
        f"local own_keys, named_keys, named_arguments = {', '.join(map(str, numbers))}\n"
    )


def _locals(names: Sequence[str], table: str) -> str:
    return f"local {', '.join(names)} = {', '.join(f'{table}[{i}]' for i in range(1, len(names) + 1))}\n"
