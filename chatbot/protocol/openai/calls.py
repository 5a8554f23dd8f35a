"""Function calls as they are generated, as one text that only grows: it is published and stored like a reply's text.

Each call is a separator, its id, its name and its arguments so far.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CALL, _FIELD = "\x1e", "\x1f"


def encode_calls(calls: Iterable[Mapping[str, Any]]) -> str:
    """The calls as one text. JSON has no raw separators; they are removed from arguments that are not JSON."""
    return "".join(
        _CALL + _FIELD.join(_plain(call[name]) for name in ("call_id", "name", "arguments")) for call in calls
    )


def decode_calls(text: str) -> list[dict[str, Any]]:
    """The calls as items; the last one's arguments may be incomplete."""
    found = []
    for call in text.split(_CALL)[1:]:
        call_id, _, rest = call.partition(_FIELD)
        name, named, arguments = rest.partition(_FIELD)
        if named:
            found.append({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments})
    return found


def in_sequence(calls: Sequence[Mapping[str, Any]], published: str) -> Sequence[Mapping[str, Any]]:
    """The calls so far that may follow `published`, so that the text only grows.

    A call waits until the arguments of the one before it are complete: some servers send those of several calls
    alternately.
    """
    for number in range(max(published.count(_CALL) - 1, 0), len(calls) - 1):
        if not _is_json(calls[number]["arguments"]):
            return calls[: number + 1]
    return calls


def ended_calls(text: str, *, whole: bool) -> list[dict[str, Any]]:
    """The calls of a reply that has ended; the last one of a reply that is not `whole` may be marked as incomplete."""
    calls = decode_calls(text)
    if calls and not whole and not _is_json(calls[-1]["arguments"]):
        calls[-1]["status"] = "incomplete"
    return calls


def _plain(text: str) -> str:
    return text.replace(_CALL, "").replace(_FIELD, "")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
