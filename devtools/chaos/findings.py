"""What a try of `make chaos` has measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One measured value of a try, and its bar."""

    what: str
    bar: str
    measured: str
    met: bool

    @property
    def verdict(self) -> str:
        return "met" if self.met else "not met"
