"""The promise of the chat, as clients count it: every acknowledged message gets one reply, in order."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Delivery:
    """How the messages of some clients fared."""

    acknowledged: int = 0
    answered: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether every acknowledged message has one reply, in order, and nothing else went wrong."""
        return not (self.lost or self.doubled or self.out_of_order or self.problems)
