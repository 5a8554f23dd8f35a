"""The limit on sockets of one session, over all web processes."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque

from chatbot.errors import StoreUnavailable
from chatbot.sessions.sessions import Sessions

logger = logging.getLogger(__name__)

#: Closed sockets in one round trip: enough for thousands to close in a moment, and a few ms of CPU.
_BATCH = 200
#: Closed sockets that are queued while Redis is away, at most: some more than one process can have open. The oldest are
#: dropped, and count until their session expires.
_MAX_QUEUED = 50_000
#: Seconds between two attempts while Redis is away.
_RETRY_DELAY = 1.0


class SocketLimit:
    """Admits sockets to sessions. Each open socket is one field of a hash in Redis, named by its process.

    Adding and removing a field are idempotent. The fields of a process that died are removed when a session is full.
    """

    def __init__(self, sessions: Sessions, process: str, most: int) -> None:
        """`process` is a pub/sub channel that only this process subscribes to; a session may have `most` sockets."""
        self._sessions = sessions
        self._process = process
        self._most = most
        self._numbers = itertools.count(1)
        self._closed: deque[tuple[str, str]] = deque(maxlen=_MAX_QUEUED)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def acquire(self, session: str) -> str | None:
        """Adds a socket to a session: its field, to be given to `release`, or None when the session is full.

        Raises `SessionNotFound` and `StoreUnavailable`.
        """
        field = f"{self._process}/{next(self._numbers)}"
        try:
            return field if self._sessions.sockets.add(session, field, self._most) else None
        except StoreUnavailable:
            # It may have been added all the same.
            self.release(session, field)
            raise

    def release(self, session: str, field: str) -> None:
        """Removes a socket in the background; returns at once."""
        with self._changed:
            self._closed.append((session, field))
            if self._thread is None:
                self._thread = threading.Thread(target=self._remove_closed, name="socket-limit", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _remove_closed(self) -> None:
        failing = False
        while True:
            with self._changed:
                while not self._closed:
                    self._changed.wait()
                batch = [self._closed.popleft() for _ in range(min(len(self._closed), _BATCH))]
            try:
                failed = self._sessions.sockets.remove(batch)
            except Exception:
                logger.exception("closed sockets could not be removed")
                failed = batch
            if not failed:
                failing = False
                continue
            if not failing:
                logger.warning("closed sockets still count until Redis answers: %d of %d", len(failed), len(batch))
            failing = True
            with self._changed:
                # Behind those of a Redis that answers.
                self._closed.extend(failed)
            if len(failed) == len(batch):
                time.sleep(_RETRY_DELAY)
