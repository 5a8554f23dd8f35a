"""Limits of one address in this web process: open websockets, handshakes without a valid token, pages being sent."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from chatbot import config
from chatbot.protocol.client_errors import RateLimited
from chatbot.web.limits.throttle import Throttle

#: Seconds after which a client that was refused for its open sockets may try again.
_RETRY_AFTER = 10.0
#: Addresses with failed handshakes after which those whose rate has recovered are dropped.
_MANY = 10_000
#: Pages that one web process sends at the same time, in all and to one address. A page is sent in milliseconds, but one
#: for a client that reads slowly, or not at all, stays in memory: 64 MB together at most.
_PAGES_SENDING, _PAGES_TO_ADDRESS = 256, 32


class AddressLimits:
    """Counts in memory, so that a refusal costs no round trip. An address counts with its network, see `network_of`."""

    def __init__(self, settings: config.Settings) -> None:
        self._most = settings.limits.max_sockets_per_address
        self._rates = settings.limits.failed_handshakes if settings.limits.rates_enabled else ()
        self._lock = threading.Lock()
        self._sockets: Counter[str] = Counter()
        self._failures: dict[str, list[Throttle]] = {}
        self._many = _MANY
        self._limits_pages = settings.limits.rates_enabled
        #: How many pages are being sent to each network.
        self._pages: Counter[str] = Counter()

    def open_socket(self, network: str) -> None:
        """Counts a socket until `close_socket`. Raises `RateLimited` for one too many."""
        with self._lock:
            if self._most and self._sockets[network] >= self._most:
                raise RateLimited(_RETRY_AFTER, message="Too many chats are open in your network: try again later")
            self._sockets[network] += 1

    def close_socket(self, network: str) -> None:
        with self._lock:
            self._sockets[network] -= 1
            if not self._sockets[network]:
                del self._sockets[network]

    def check_failures(self, network: str) -> None:
        """Raises `RateLimited` after too many failed handshakes."""
        if (wait := max((throttle.wait() for throttle in self._failures.get(network, ())), default=0)) > 0:
            raise RateLimited(wait, message="Too many connections without a valid session: try again later")

    def count_failure(self, network: str) -> None:
        """Counts a handshake whose token is missing, unknown or expired."""
        if not self._rates:
            return
        with self._lock:
            if len(self._failures) >= self._many:
                self._failures = {n: found for n, found in self._failures.items() if any(t.busy() for t in found)}
                self._many = max(_MANY, 2 * len(self._failures))
            throttles = self._failures.get(network)
            if throttles is None:
                # One is taken by the handshake that exceeds the rate.
                throttles = [Throttle(rate.amount / rate.get_expiry(), rate.amount - 1) for rate in self._rates]
                self._failures[network] = throttles
            for throttle in throttles:
                throttle.delay(1)

    def begin_sending(self, network: str) -> Callable[[], None]:
        """Counts a page that is sent to `network` until the returned function is called.

        Raises `RateLimited` while this process is sending too many.
        """
        if not self._limits_pages:
            return lambda: None
        if self._pages[network] >= _PAGES_TO_ADDRESS or self._pages.total() >= _PAGES_SENDING:
            raise RateLimited(1.0, message="Too many histories are being read: ask again in a moment")
        self._pages[network] += 1
        return lambda: self._end_sending(network)

    def _end_sending(self, network: str) -> None:
        self._pages[network] -= 1
        if not self._pages[network]:
            del self._pages[network]
