"""How much one address, one session and one socket may take. What several processes share is counted in Redis."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Sequence

import redis
from limits import RateLimitItem
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from chatbot import config
from chatbot.errors import RateLimited, SessionNotFound, StoreUnavailable
from chatbot.sessions import Bucket, Sessions

logger = logging.getLogger(__name__)

#: Frames that one socket may send at once, and then each second, at least; more are not refused but read later. What a
#: person sends in a minute, a client that sends again after a break sends in a moment.
_FRAMES_AT_ONCE, _FRAMES = 60, 20
#: Bytes that go with a frame, of all frames and at once: most messages are shorter, and the longest may come in a row.
#: Small frames, such as pings, cost more a byte, but a socket that sends no faster costs little in any case.
_FRAME_BYTES, _BYTES_AT_ONCE = 800, 256 * 1024
#: Bits of an IPv6 address that name one customer; the rest is that customer's own to choose.
_IPV6_PREFIX = 64
#: Locks for the counts of sockets: sessions that share one wait for each other for a round trip.
_LOCKS = 256
#: Threads that tell Redis of sockets that are gone, at most: nobody waits for that.
_TELLERS = 4


class Rates:
    """The rates of `RATELIMIT_…`, or none of them where they are turned off."""

    def __init__(self, settings: config.Settings, client: redis.Redis) -> None:
        self.enabled = settings.ratelimit_enabled
        self._sessions = settings.ratelimit_sessions
        self._session_messages = settings.ratelimit_session_messages
        self._address_messages = settings.ratelimit_address_messages
        # The address is not used, as there is a pool.
        storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="chat:rate")
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    def new_session(self, address: str | None) -> None:
        """Counts a session that is to begin. Raises `RateLimited` and `StoreUnavailable`."""
        if not self.enabled:
            return
        try:
            for rate in self._sessions:
                if not self._limiter.hit(rate, "sessions", _network(address)):
                    reset = self._limiter.get_window_stats(rate, "sessions", _network(address)).reset_time
                    raise RateLimited(max(reset - time.time(), 1.0))
        except redis.RedisError as error:
            raise StoreUnavailable(f"rates: {type(error).__name__}: {error}") from error

    def messages(self, session: str, address: str | None) -> tuple[Bucket, ...]:
        """The buckets from which each message of a socket takes, in the step that stores it."""
        if not self.enabled:
            return ()
        return (
            *_buckets(f"chat:{{{session}}}:rate", self._session_messages),
            *_buckets(f"chat:rate:messages:{_network(address)}", self._address_messages),
        )

    def frames(self) -> Callable[[float], float] | None:
        """How long a socket is to wait after a frame before the next is dealt with."""
        if not self.enabled:
            return None
        at_once = 2 * min(rate.amount for rate in self._session_messages)
        return _Pace(self._frames_a_second(), max(at_once, _FRAMES_AT_ONCE)).delay

    def input(self) -> Callable[[float], float] | None:
        """How long a socket is to wait after some bytes before more are read."""
        if not self.enabled:
            return None
        return _Pace(self._frames_a_second() * _FRAME_BYTES, _BYTES_AT_ONCE).delay

    def _frames_a_second(self) -> float:
        # Twice what may be stored: stops, retries and refusals are frames too.
        return max(2 * min(rate.amount / rate.get_expiry() for rate in self._session_messages), _FRAMES)


class _Pace:
    """A bucket in this process: tells how long to wait instead of refusing."""

    def __init__(self, rate: float, size: float) -> None:
        """`size` at once, then `rate` a second."""
        self._each = 1 / rate
        self._slack = size / rate
        self._full = 0.0

    def delay(self, amount: float) -> float:
        """Takes `amount`; seconds to wait before the next."""
        now = time.monotonic()
        self._full = max(self._full, now) + amount * self._each
        return max(self._full - now - self._slack, 0.0)


class Seats:
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


def _buckets(key: str, rates: Sequence[RateLimitItem]) -> list[Bucket]:
    return [
        Bucket(f"{key}:{number}", rate.get_expiry() * 1000 / rate.amount, rate.amount)
        for number, rate in enumerate(rates)
    ]


def _network(address: str | None) -> str:
    """What stands for one customer: an IPv4 address, or the network of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False))
        ip = ip.ipv4_mapped
    return str(ip)
