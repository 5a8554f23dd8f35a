"""The sockets for which a `ModelLoop` waits: those of model servers, and those that must not wait for these."""

from __future__ import annotations

import contextlib
import selectors
from typing import Any

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class LoopSockets:
    """Selects among all sockets, or among the urgent ones alone."""

    def __init__(self) -> None:
        self._all, self._urgent = selectors.DefaultSelector(), selectors.DefaultSelector()

    def watch(self, sock: Any, events: int, data: Any = None, *, urgent: bool = False) -> None:
        """Waits for these events of a socket from now on; `select` returns `data` with them."""
        for selector in (self._all, self._urgent) if urgent else (self._all,):
            try:
                selector.modify(sock, events, data)
            except KeyError:
                selector.register(sock, events, data)

    def forget(self, sock: Any) -> None:
        for selector in (self._all, self._urgent):
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(sock)

    def select(self, timeout: float, *, urgent: bool = False) -> list[tuple[selectors.SelectorKey, int]]:
        """The sockets that are ready, with their events, after up to `timeout` seconds."""
        return (self._urgent if urgent else self._all).select(timeout)
