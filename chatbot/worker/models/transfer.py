"""What a model loop needs of a request under way."""

from __future__ import annotations

from typing import Any, Protocol


class Transfer(Protocol):
    """A request under way. The loop calls these methods, in its thread."""

    easy: Any

    def ending(self) -> None:
        """The transfer ends; libcurl still knows its connection."""

    def finished(self, code: int) -> None:
        """The transfer ended, with a code of libcurl."""

    def resume(self) -> None:
        """Continues the greenlet that waits for what arrived or ended."""

    def check_times(self, now: float) -> None:
        """Compares the times with their limits; `now` is monotonic."""
