"""Hands the chunks of a callable to the slot that waits for them, from the thread or the event loop that makes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: Items that the slot has not taken yet, at most.
_MOST = 64


class Handover(Generic[T]):
    """A queue with one producer and one consumer, which either side can end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: deque[T] = deque()
        self._ended = False
        self._error: BaseException | None = None
        #: Whether the consumer takes nothing further.
        self.closed = False

    @property
    def full(self) -> bool:
        return len(self._items) >= _MOST

    def put(self, item: T, *, wait: bool = True) -> bool:
        """Adds an item, waiting while the queue is full unless `wait` is false; returns false once it is closed."""
        with self._changed:
            while wait and self.full and not self.closed:
                self._changed.wait()
            if self.closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Ends the producer's side; `error` is raised to the consumer, after the items."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the consumer's side, whatever is queued."""
        with self._changed:
            self.closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items until either side has ended. Raises the producer's error."""
        while True:
            with self._changed:
                while not (self._items or self._ended or self.closed):
                    self._changed.wait()
                if self.closed:
                    return
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
