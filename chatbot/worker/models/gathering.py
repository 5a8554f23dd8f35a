"""The sockets of replies that have begun, which are read at intervals: what arrives meanwhile is read together.

A token that is read alone takes libcurl, its reply's greenlet, a report, Redis and web as much time as several do.
"""

from __future__ import annotations

import contextlib
import selectors

#: Replies in progress, at most, of which each token is read at once.
FEW = 10
#: Groups of sockets that take turns: few replies are read in a row, so that other events do not wait for long.
_GROUPS = 8
#: Seconds from one reading of a reply to the next: for each reply in progress, more for each beyond many, and at most.
_PER_REPLY, _MANY, _PER_REPLY_MORE, _LONGEST = 0.00006, 200, 0.00024, 0.08


class Gathering:
    """Sockets of one selector that are read at intervals instead. For the thread of the selector."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._groups = [selectors.DefaultSelector() for _ in range(_GROUPS)]
        self._group_of: dict[int, selectors.BaseSelector] = {}
        self._turn = 0
        #: The monotonic time of the next turn.
        self.due = 0.0

    def __len__(self) -> int:
        return len(self._group_of)

    def add(self, descriptor: int) -> None:
        """Has a socket of the selector read at intervals."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)
            group = min(self._groups, key=lambda each: len(each.get_map()))
            group.register(descriptor, selectors.EVENT_READ)
            self._group_of[descriptor] = group

    def remove(self, descriptor: int) -> None:
        """Has the selector watch a socket again."""
        if self.discard(descriptor):
            self._selector.register(descriptor, selectors.EVENT_READ)

    def discard(self, descriptor: int) -> bool:
        """Forgets a socket; whether it was one of these."""
        group = self._group_of.pop(descriptor, None)
        if group is not None:
            with contextlib.suppress(KeyError, ValueError):
                group.unregister(descriptor)
        return group is not None

    def take_turn(self, now: float) -> list[int]:
        """The sockets that can be read, of the group whose turn it is; none before the turn is due."""
        if not self._group_of or now < self.due:
            return []
        self.due = now + interval(len(self._group_of)) / _GROUPS
        self._turn = (self._turn + 1) % _GROUPS
        group = self._groups[self._turn]
        return [key.fd for key, _ in group.select(0)] if group.get_map() else []


def interval(replies: int) -> float:
    """Seconds from one reading of a reply to the next, with so many in progress."""
    return min(_PER_REPLY * replies + _PER_REPLY_MORE * max(replies - _MANY, 0), _LONGEST)
