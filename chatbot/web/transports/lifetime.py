"""How long a session still lives, as far as one of its connections knows."""

from __future__ import annotations

import time

from chatbot.config import Settings
from chatbot.errors import StoreUnavailable
from chatbot.sessions.sessions import Sessions

#: Seconds between two checks of whether the session still exists, at most.
_CHECK_INTERVAL = 30.0


class Lifetime:
    """The end of a session's time to live. Other connections may have renewed it since: `over` asks Redis."""

    def __init__(self, sessions: Sessions, session: str, settings: Settings) -> None:
        self.session = session
        self._sessions = sessions
        self._limits = settings.limits
        # A monotonic time.
        self._ends_at = 0.0

    def begin(self, seconds: float) -> None:
        """The session lives for so many seconds from now on."""
        self._ends_at = time.monotonic() + seconds

    def renewed(self) -> None:
        """The session was used."""
        if self._limits.max_session_age:
            # How far the time to live was renewed depends on the session's start.
            self._exists()
        else:
            self.begin(self._limits.session_ttl)

    def until_check(self) -> float:
        """The seconds until `over` should be called."""
        return min(max(self._ends_at - time.monotonic(), 0) + 0.05, _CHECK_INTERVAL)

    def over(self) -> bool:
        """Whether the session has expired."""
        return time.monotonic() >= self._ends_at and not self._exists()

    def _exists(self) -> bool:
        try:
            left = self._sessions.expires_in(self.session)
        except StoreUnavailable:
            # Unknown: check again in a second.
            left = 1.0
        self.begin(left)
        return left > 0
