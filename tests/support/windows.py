"""Which turns of a path belong to a prompt: written down once more, to compare with."""

from __future__ import annotations

from collections.abc import Sequence


def window_begin(answered: Sequence[bool], history: int) -> int:
    """The place of the first turn in the prompt that follows a path; `answered` says of each turn if it has a reply."""
    most, stride = history // 2 * 2, history // 2 + 1
    replies = [place for place, reply in enumerate(answered) if reply]
    if not most:
        return len(answered)
    begin = replies[-most] if len(replies) >= most else 0
    while begin % stride:
        begin += 1
    return begin
