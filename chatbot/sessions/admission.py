"""Admission where the line and the rates of an address are in another partition than the session.

Then two steps do what one does otherwise: the address's partition admits the request, the session's accepts it. What
the latter refuses is given back to the former. While the line of sessions is short every address has room in it, so the
session's partition decides alone, unless the address has rates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from chatbot.protocol.client_errors import SessionDamaged
from chatbot.sessions.buckets import Bucket, takes
from chatbot.store.circuit_breakers import CircuitBreakers
from chatbot.store.partitions import Partition, Partitions
from chatbot.store.scripts import Scripts

#: Seconds for which the line counts as long after a partition found it so: until the next sweeps.
_LONG = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class _Taken:
    """What an address's partition was asked for."""

    at: Partition
    buckets: Sequence[Bucket]
    text: str
    line: str

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.at.shared, *(bucket.key for bucket in self.buckets), self.line)


class Admission:
    """The address's part of the steps. A Redis that fails refuses nothing."""

    def __init__(self, partitions: Partitions, breakers: CircuitBreakers, max_queue_age: float) -> None:
        self._partitions = partitions
        self._max_wait_ms = max_queue_age * 1000
        self._scripts = Scripts()
        self._breakers = breakers
        # Until then, by the monotonic clock, the line may be long.
        self._long_until = 0.0

    def elsewhere(self, session: str, address: str) -> bool:
        """Whether the address is in another partition than the session."""
        return self._partitions.several and self._partitions.of(session) is not self._partitions.of_address(address)

    def admit(
        self,
        session: str,
        address: str,
        buckets: Sequence[Bucket],
        text: str,
        accept: Callable[[str, Sequence[Bucket]], list[Any]],
    ) -> list[Any]:
        """What `accept` answers, which gets what the address's partition says, and the buckets of the session.

        A repeated request is answered whatever that is.
        """
        at = self._partitions.of_address(address)
        own, others = _split(buckets, lambda bucket: bucket.partition is not at)
        if not others and time.monotonic() > self._long_until:
            answer = accept("unasked", own)
            if answer[0] != "ask":
                return answer
            self._long_until = time.monotonic() + _LONG
        taken = _Taken(at, others, text, at.line(address))
        # Without an answer there is nothing to give back.
        nothing: list[Any] = ["admitted", 0, None]
        status, ms, entered = self._try(at, lambda: self._admit(session, taken), nothing)
        try:
            answer = accept(f"{status}:{ms}", own)
        except SessionDamaged:
            self._give_back(session, taken, status, entered, accepted=False)
            raise
        accepted = answer[0] == "accepted"
        if not accepted or not answer[4]:
            # A request of a session that is not ready, as a worker holds its lease, is in no line.
            self._give_back(session, taken, status, entered, accepted=accepted)
        return answer

    def split(self, session: str, buckets: Sequence[Bucket]) -> tuple[list[Bucket], list[Bucket]]:
        """The buckets that the session's partition has, and those of an address in another one."""
        at = self._partitions.of(session)
        return _split(buckets, lambda bucket: bucket.partition in (None, at))

    def take(self, elsewhere: Sequence[Bucket], share: float, text: str = "") -> int:
        """Takes `share` of the tokens for a text from each bucket of an address in another partition.

        Returns the milliseconds until there is enough, 0 when they were taken.
        """
        at = elsewhere[0].partition if elsewhere else None
        if at is None:
            return 0
        taken = _Taken(at, elsewhere, text, "")
        step = partial(self._scripts.run, "take", at.fail_fast, taken.keys, *takes(elsewhere, text), share=share)
        return int(self._try(at, step, 0))

    def _admit(self, session: str, taken: _Taken) -> list[Any]:
        values = takes(taken.buckets, taken.text)
        answer: list[Any] = self._scripts.run(
            "admit", taken.at.fail_fast, taken.keys, *values, session=session, max_wait_ms=self._max_wait_ms
        )
        return [*answer, None][:3]

    def _give_back(self, session: str, taken: _Taken, status: str, entered: int | None, *, accepted: bool) -> None:
        if status != "admitted" or entered is None or (accepted and not entered):
            return
        buckets = () if accepted else taken.buckets
        back = _Taken(taken.at, buckets, taken.text, taken.line)
        values = takes(buckets, taken.text)
        stays = 0 if entered else 1
        run = partial(self._scripts.run, "give_back", back.at.fail_fast, back.keys, *values)
        step = partial(run, session=session, stays=stays)
        self._try(taken.at, step, None)

    def _try(self, at: Partition, step: Callable[[], T], otherwise: T) -> T:
        return self._breakers.call(at.group, step, otherwise, "an address is not limited")


def _split(buckets: Sequence[Bucket], first: Callable[[Bucket], bool]) -> tuple[list[Bucket], list[Bucket]]:
    return [bucket for bucket in buckets if first(bucket)], [bucket for bucket in buckets if not first(bucket)]
