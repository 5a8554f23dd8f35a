"""How many sockets one session may have, over all web processes."""

from __future__ import annotations

import contextlib
import logging
import threading

from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import SessionNotFound
from chatbot.sessions.messages import Sessions

logger = logging.getLogger(__name__)


#: Locks for the counts of sockets: sessions that share one wait for each other for a round trip.
_LOCKS = 256


#: Threads that tell Redis of sockets that are gone, at most: nobody waits for that.
_TELLERS = 4


class SocketLimit:
    """The sockets of each session: this process counts its own, Redis adds up those of all."""

    def __init__(self, sessions: Sessions, process: str, most: int) -> None:
        """`process` is a channel that only this process listens to."""
        self._sessions = sessions
        self._process = process
        self._most = most
        self._counts: dict[str, int] = {}
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        # Sessions of which Redis has a count that is too high.
        self._untold: set[str] = set()
        self._telling = 0
        self._telling_changes = threading.Lock()

    def take(self, session: str) -> bool:
        """Whether the session may have one more socket; then `leave` is to follow.

        Raises `SessionNotFound` and `StoreUnavailable`.
        """
        with self._lock(session):
            count = self._counts.get(session, 0) + 1
            try:
                taken = self._sessions.seat(session, self._process, count, self._most)
            except StoreUnavailable:
                # Perhaps it was counted.
                self._untold.add(session)
                raise
            self._untold.discard(session)
            if taken:
                self._counts[session] = count
        self._tell()
        return taken

    def leave(self, session: str, *, tell: bool = True) -> None:
        """One socket less. A process that is about to end need not tell: it is found out to be dead."""
        with self._lock(session):
            count = self._counts.pop(session) - 1
            if count:
                self._counts[session] = count
        if tell:
            self._untold.add(session)
            self._tell()

    def _tell(self) -> None:
        """Starts telling Redis of the counts that are too high there, a few at a time."""
        with self._telling_changes:
            if not self._untold or self._telling >= _TELLERS:
                return
            self._telling += 1
        threading.Thread(target=self._tell_all, name="seats", daemon=True).start()

    def _tell_all(self) -> None:
        session = None
        try:
            while (session := self._next_untold()) is not None:
                with contextlib.suppress(SessionNotFound), self._lock(session):
                    # A session that has ended took its count with it.
                    self._sessions.seat(session, self._process, self._counts.get(session, 0), None)
        except StoreUnavailable as error:
            logger.info("seats are told of when the next socket comes or goes: %s", error)
        finally:
            with self._telling_changes:
                if session is not None:
                    self._untold.add(session)
                    self._telling -= 1

    def _next_untold(self) -> str | None:
        with self._telling_changes:
            if self._untold:
                return self._untold.pop()
            # In this step, so that whoever adds one starts another thread.
            self._telling -= 1
            return None

    def _lock(self, session: str) -> threading.Lock:
        return self._locks[hash(session) % _LOCKS]
