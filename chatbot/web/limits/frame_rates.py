"""How fast this process reads the frames of one client. What comes faster is delayed, not refused."""

from __future__ import annotations

from collections.abc import Callable

from chatbot import config
from chatbot.protocol.client_errors import RateLimited
from chatbot.web.limits.throttle import Throttle, Throttles

#: Frames that one client may send at once, and then per second, at least. After a reconnect a client sends in a moment
#: what a user wrote in a minute.
_FRAMES_AT_ONCE, _FRAMES = 60, 20
#: Bytes per frame of that rate, and bytes at once: most messages are shorter, and several of the longest may come in a
#: row. A smaller frame, a fragment or a ping for example, counts as so many bytes.
_FRAME_BYTES, _BYTES_AT_ONCE = 800, 256 * 1024
#: Seconds that a request waits for the throttle of its session, before more are refused.
_LONGEST_WAIT = 3.0


class FrameRates:
    """Throttles for sockets, and for the requests of sessions without one; none without `RATELIMIT_ENABLED`."""

    def __init__(self, settings: config.Settings) -> None:
        self._enabled = settings.limits.rates_enabled
        messages = settings.limits.session_messages
        # Twice the rate of messages: stops, retries and refused messages are frames too.
        self._per_second = max(2 * min(rate.amount / rate.get_expiry() for rate in messages), _FRAMES)
        self._at_once = max(2 * min(rate.amount for rate in messages), _FRAMES_AT_ONCE)
        self._sessions = Throttles(self._throttle)

    def of_socket(self) -> Callable[[float], float] | None:
        """For one socket: a function that returns the seconds to wait after `n` frames; None for no limit."""
        return self._throttle().delay if self._enabled else None

    def of_bytes(self) -> Callable[[int, int], float] | None:
        """For one socket: a function that returns the seconds to wait after `n` bytes with `m` frames; None for no
        limit.

        What holds no whole frame counts as one.
        """
        if not self._enabled:
            return None
        throttle = Throttle(self._per_second * _FRAME_BYTES, _BYTES_AT_ONCE)
        return lambda size, count: throttle.delay(max(size, max(count, 1) * _FRAME_BYTES))

    def request_wait(self, session: str) -> float:
        """The seconds to wait before a request of `session` that is a frame, or a poll; they have a socket's rate.

        Raises `RateLimited` when too many wait.
        """
        if not self._enabled:
            return 0.0
        throttle = self._sessions.of(session)
        if (wait := throttle.wait()) > _LONGEST_WAIT:
            raise RateLimited(wait)
        return throttle.delay(1)

    def _throttle(self) -> Throttle:
        return Throttle(self._per_second, self._at_once)
