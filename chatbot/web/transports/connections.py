"""What transports share: a connection is admitted within the limits, attached to the hub, brought up to date."""

from __future__ import annotations

import logging
import time
from typing import Any

from chatbot.errors import ChatbotError, StoreUnavailable
from chatbot.protocol import close_codes, frames
from chatbot.protocol.client_errors import UNAVAILABLE, ClientError, RateLimited, SessionDamaged, SessionNotFound
from chatbot.protocol.close_codes import Closing
from chatbot.sessions.snapshots import Snapshot
from chatbot.web.client_lines import refused
from chatbot.web.fanout.hub import replay
from chatbot.web.fanout.outbox import SEND_DEADLINE, Outbox
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.services import Services
from chatbot.web.transports.lifetime import Lifetime

logger = logging.getLogger(__name__)

#: Bytes queued for a client at which a replay pauses: more than a page, so that the snapshot of a client that does not
#: read is freed at once.
_REPLAY_QUEUED = 512 * 1024
#: Seconds after which a client that was refused for the number of connections may try again.
_RETRY_AFTER = 5.0


class Refused(ChatbotError):
    """A connection is not served; `closing` says why, and `error` says it to clients without a websocket."""

    def __init__(self, closing: Closing) -> None:
        super().__init__(closing.reason)
        self.closing = closing

    @property
    def error(self) -> ClientError:
        if self.closing == close_codes.NOT_AUTHENTICATED:
            return SessionNotFound()
        if self.closing == close_codes.DAMAGED:
            return SessionDamaged()
        if self.closing in (close_codes.TOO_MANY_SOCKETS, close_codes.TOO_MANY_IN_SESSION):
            return RateLimited(_RETRY_AFTER, message=self.closing.reason)
        return ClientError("unavailable", UNAVAILABLE, status=503, retry_after=1.0)


class Connection:
    """One client's connection to a session, from `open` to `close`: a websocket, an event stream or a poll."""

    def __init__(self, services: Services, subscriber: Subscriber, network: str, kind: str) -> None:
        """`network` is the client's; `kind` names the transport in the log, with its article."""
        self._services = services
        self._subscriber = subscriber
        self._network = network
        self._kind = kind
        self._admission: str | None = None
        self.lifetime = Lifetime(services.sessions, subscriber.session, services.settings)

    def open(
        self, has_token: bool, *, after: str | None = None, position: int | None = None, touch: bool = True
    ) -> Snapshot:
        """Attaches the subscriber, whose events are held, and returns a snapshot as `Sessions.snapshot` does.

        Raises `Refused`. `close` is needed in any case.
        """
        try:
            if not has_token:
                raise SessionNotFound
            if len(self._services.hub) >= self._services.settings.limits.max_sockets:
                raise self._refusal("too_many", close_codes.TOO_MANY_SOCKETS)
            with self._services.hub.attach_slot(self._subscriber.session):
                self._admission = self._services.socket_limit.acquire(self._subscriber.session)
            if self._admission is None:
                raise self._refusal("too_many_in_session", close_codes.TOO_MANY_IN_SESSION)
            return self._attach(after=after, position=position, touch=touch)
        except SessionNotFound:
            self._services.address_limits.count_failure(self._network)
            raise self._refusal("not_authenticated", close_codes.NOT_AUTHENTICATED) from None
        except SessionDamaged:
            raise self._refusal("damaged", close_codes.DAMAGED) from None
        except StoreUnavailable as error:
            logger.warning("%s could not be attached: %s", self._kind, error)
            self._services.metrics.redis_errors.inc()
            raise self._refusal("unavailable", close_codes.TRY_LATER) from error

    def _attach(self, **what: Any) -> Snapshot:
        hub = self._services.hub
        with hub.attach_slot(self._subscriber.session):
            hub.attach(self._subscriber)
            if hub.leaving:
                raise self._refusal("going_away", close_codes.GOING_AWAY)
            session = self._subscriber.session
            reads = self._services.rate_limits.reads(session, self._network)
            snapshot = self._services.sessions.snapshot(session, buckets=reads, **what)
        self.lifetime.begin(snapshot.expires_in)
        return snapshot

    def _refusal(self, reason: str, closing: Closing) -> Refused:
        """`reason` is one of `SOCKET_REFUSALS`."""
        self._services.metrics.sockets_refused.labels(reason).inc()
        refused(self._kind, reason)
        return Refused(closing)

    def replay(self, snapshot: Snapshot, outbox: Outbox) -> bool:
        """Sends the session and what the client missed, then passes live events on; false if it reads too slowly."""
        subscriber = self._subscriber
        subscriber.send_frame(session_frame(snapshot))
        for frame in replay(subscriber.session, snapshot):
            if not outbox.wait_until_below(_REPLAY_QUEUED, SEND_DEADLINE):
                if not outbox.slow:
                    self._services.metrics.slow_clients.inc()
                return False
            subscriber.send_frame(frame)
            time.sleep(0)
        self.release(snapshot)
        return True

    def release(self, snapshot: Snapshot | None = None) -> None:
        """Passes on the events that were held; those of a `snapshot` that was sent are dropped."""
        missed = not self._subscriber.release(snapshot)
        if missed or (snapshot is not None and self._subscriber.missed):
            self._services.hub.resync([self._subscriber])

    def close(self) -> None:
        """Detaches the subscriber, and makes room for another connection."""
        hub = self._services.hub
        hub.detach(self._subscriber)
        # When the process ends its channel has no subscriber, and its sockets count no longer.
        if self._admission is not None and not hub.leaving:
            self._services.socket_limit.release(self._subscriber.session, self._admission)
            self._admission = None


def session_frame(snapshot: Snapshot) -> dict[str, Any]:
    """The first frame of a connection."""
    return frames.session_frame(
        snapshot.name,
        snapshot.session_start,
        snapshot.expires_in,
        snapshot.recovered,
        snapshot.pending,
        snapshot.leaf,
        {request: snapshot.requests[request] for request in snapshot.pending if request in snapshot.requests},
    )


def admit_address(services: Services, network: str) -> None:
    """Counts a connection of `network` until `AddressLimits.close_socket`. Raises `RateLimited`."""
    reason = "failed_handshakes"
    try:
        services.address_limits.check_failures(network)
        reason = "too_many_of_address"
        services.address_limits.open_socket(network)
    except RateLimited:
        services.metrics.sockets_refused.labels(reason).inc()
        raise
