"""Limits of one address in this web process: open websockets, and handshakes without a valid token."""

from __future__ import annotations

import threading
from collections import Counter

from chatbot import config
from chatbot.protocol.client_errors import RateLimited
from chatbot.web.limits.rates import Pace

#: Seconds after which a client that was refused for its open sockets may try again.
_RETRY_AFTER = 10.0
#: Addresses with failed handshakes after which those whose rate has recovered are dropped.
_MANY = 10_000


class AddressLimits:
    """Counts in memory, so that a refusal costs no round trip. An address counts with its network, see `network_of`."""

    def __init__(self, settings: config.Settings) -> None:
        self._most = settings.limits.max_sockets_per_address
        self._rates = settings.limits.failed_handshakes if settings.limits.rates_enabled else ()
        self._lock = threading.Lock()
        self._sockets: Counter[str] = Counter()
        self._failures: dict[str, list[Pace]] = {}
        self._many = _MANY

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
        if (wait := max((pace.wait() for pace in self._failures.get(network, ())), default=0)) > 0:
            raise RateLimited(wait, message="Too many connections without a valid session: try again later")

    def count_failure(self, network: str) -> None:
        """Counts a handshake whose token is missing, unknown or expired."""
        if not self._rates:
            return
        with self._lock:
            if len(self._failures) >= self._many:
                self._failures = {n: paces for n, paces in self._failures.items() if any(p.busy() for p in paces)}
                self._many = max(_MANY, 2 * len(self._failures))
            paces = self._failures.get(network)
            if paces is None:
                # One is taken by the handshake that exceeds the rate.
                paces = [Pace(rate.amount / rate.get_expiry(), rate.amount - 1) for rate in self._rates]
                self._failures[network] = paces
            for pace in paces:
                pace.delay(1)
