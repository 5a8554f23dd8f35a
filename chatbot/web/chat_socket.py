"""The websocket `/chat`: frames in, frames out, for as long as the session lives."""

from __future__ import annotations

import logging
import time
from typing import Any

from simple_websocket import ConnectionClosed, Server

from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol import frames
from chatbot.protocol.client_errors import ClientError, RateLimited, SessionNotFound
from chatbot.protocol.events import to_json
from chatbot.sessions.ids import session_id
from chatbot.sessions.messages import Accepted, Snapshot
from chatbot.web.hub import GOING_AWAY, Subscriber, replay
from chatbot.web.outbox import LINGER, SEND_DEADLINE, Transport, text_frame
from chatbot.web.services import Services

logger = logging.getLogger(__name__)

#: Bytes of a client's frame.
MAX_FRAME = 64 * 1024
#: Bytes that may wait for a client before a replay waits for it.
_REPLAY_AHEAD = 256 * 1024
#: Seconds for which further messages are refused without asking again, at most: things may have changed.
_REFUSE_ALONE = 1.0
#: Seconds between two looks at whether the session still lives, at most.
_LOOK_INTERVAL = 30.0

POLICY, TOO_BIG, TRY_LATER = 1008, 1009, 1013
NOT_AUTHENTICATED = "Session not authenticated or expired token"
EXPIRED = "Session expired"
UNAVAILABLE = "The chat is not available right now: send this again in a moment"


class ChatSocket:
    """One websocket. `run` returns when it is closed."""

    def __init__(
        self,
        ws: Server,
        transport: Transport,
        services: Services,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._sessions = services.sessions
        self._hub = services.hub
        self._enqueuer = services.enqueuer
        self._rates = services.rates
        self._seats = services.socket_limit
        self._settings = services.settings
        self._metrics = services.metrics
        self._closing = False
        # Until then a message is refused without asking Redis, and the time that it was told to wait for.
        self._refused_until = self._told_until = 0.0
        # A monotonic time; what others do in the session may have moved it further.
        self._expires_at = 0.0

    def run(self, token: str | None, after: str | None, address: str | None) -> None:
        """Serves the session of `token` to a client at `address`, going on after the message `after`."""
        session = session_id(token or "")
        self._subscriber = Subscriber(session, self._transport.send, self._close)
        self._buckets = self._rates.messages(session, address)
        self._pace, self._transport.pace = self._rates.frames(), self._rates.input()
        self._transport.ahead = lambda: len(self._ws.input_buffer)
        # What made the handshake is not needed any more, and is as large as all the rest of a connection.
        self._ws.ws = self._ws.ws.connection
        try:
            with bound(session=session), self._metrics.sockets.track_inprogress():
                self._serve(session, bool(token), after)
        except ConnectionClosed:
            logger.debug("socket closed")
        finally:
            # Nobody deals with frames any more: what comes is read to its end and dropped.
            self._transport.ahead, self._transport.pace = int, None
            self._hub.detach(self._subscriber)
            closed = self._transport.wait_closed(LINGER + 0.5)
            self._transport.abort()
            closed = closed or self._transport.wait_closed(0.5)
            # What refers to itself in a circle stays until garbage is collected, which is seldom done.
            del self._subscriber
            if closed:
                # flask-sock's response refers to `ws`, and to itself: what else hangs on it is freed at once.
                self._ws.sock = self._ws.ws = self._ws.thread = self._ws.environ = None

    def _serve(self, session: str, has_token: bool, after: str | None) -> None:
        try:
            if not has_token:
                return self._turn_away("not_authenticated", POLICY, NOT_AUTHENTICATED)
            if len(self._hub) >= self._settings.limits.max_sockets:
                return self._turn_away("too_many", TRY_LATER, "Too many connections: try again later")
            with self._hub.attach_slot():
                seated = self._seats.take(session)
            if not seated:
                told = "Too many connections in this session: close one"
                return self._turn_away("too_many_in_session", TRY_LATER, told)
        except SessionNotFound:
            return self._turn_away("not_authenticated", POLICY, NOT_AUTHENTICATED)
        except StoreUnavailable as error:
            logger.warning("a socket could not be attached: %s", error)
            return self._turn_away("unavailable", TRY_LATER, "Try again later")
        try:
            self._talk(session, after)
        finally:
            self._hub.detach(self._subscriber)
            self._seats.leave(session, tell=not self._hub.leaving)

    def _talk(self, session: str, after: str | None) -> None:
        try:
            with self._hub.attach_slot():
                self._hub.attach(self._subscriber)
                if self._hub.leaving:
                    self._turn_away("going_away", *GOING_AWAY)
                    return
                snapshot = self._sessions.snapshot(session, after=after)
            self._replay(session, snapshot)
            del snapshot
        except SessionNotFound:
            self._turn_away("not_authenticated", POLICY, NOT_AUTHENTICATED)
        except StoreUnavailable as error:
            logger.warning("a socket could not be attached: %s", error)
            self._turn_away("unavailable", TRY_LATER, "Try again later")
        while not self._closing:
            wait = min(max(self._expires_at - time.monotonic(), 0) + 0.05, _LOOK_INTERVAL)
            data = self._ws.receive(timeout=wait)
            try:
                if data is not None:
                    self._handle(session, data)
                    if self._pace is not None and (delay := self._pace(1)):
                        time.sleep(delay)
                elif time.monotonic() >= self._expires_at and not self._still_lives(session):
                    self._close(POLICY, EXPIRED)
            except SessionNotFound:
                self._close(POLICY, EXPIRED)

    def _replay(self, session: str, snapshot: Snapshot) -> None:
        self._expires_at = time.monotonic() + snapshot.expires_in
        self._send(
            frames.session_frame(
                snapshot.name, snapshot.session_start, snapshot.expires_in, snapshot.recovered, snapshot.pending
            )
        )
        for frame in replay(session, snapshot):
            if not self._transport.wait_until_below(_REPLAY_AHEAD, SEND_DEADLINE):
                if not self._transport.slow:
                    self._metrics.slow_clients.inc()
                self._close(TRY_LATER, "This client reads too slowly")
                return
            self._send(frame)
        if not self._subscriber.release(snapshot) or self._subscriber.missed:
            self._hub.resync([self._subscriber])

    def _handle(self, session: str, data: str | bytes) -> None:
        message_id = None
        try:
            if isinstance(data, bytes):
                raise ClientError("binary_not_supported", "Send text frames")
            if len(data) * 4 > MAX_FRAME and len(data.encode()) > MAX_FRAME:
                return self._close(TOO_BIG, "Message is too big")
            frame = frames.parse_frame(data, self._settings.limits.max_message_length)
            message_id = frame["id"]
            # An answer goes out before the events that it may have caused.
            self._subscriber.hold()
            try:
                self._carry_out(session, frame)
            finally:
                if not self._subscriber.release():
                    self._hub.resync([self._subscriber])
        except SessionNotFound:
            raise
        except ClientError as error:
            self._metrics.messages_refused.labels(error.code).inc()
            self._send(frames.error(error))
        except StoreUnavailable as error:
            self._metrics.redis_errors.inc()
            with bound(message_id=message_id):
                logger.warning("a frame could not be carried out: %s", error)
            self._refuse(message_id)
        except ConnectionClosed:
            raise
        except Exception:
            self._metrics.errors.inc()
            with bound(message_id=message_id):
                logger.exception("a frame could not be carried out")
            self._refuse(message_id)

    def _carry_out(self, session: str, frame: dict[str, str | None]) -> None:
        if frame["type"] == "stop":
            if self._sessions.stop(session):
                self._enqueuer.enqueue(session)
            return
        accepted = self._accept(session, frame)
        self._expires_at = time.monotonic() + self._settings.limits.session_ttl
        self._acknowledge(accepted)
        if accepted.wake:
            self._enqueuer.enqueue(session)

    def _accept(self, session: str, frame: dict[str, str | None]) -> Accepted:
        now = time.monotonic()
        if now < self._refused_until:
            raise RateLimited(self._told_until - now, frame["id"])
        try:
            if frame["type"] == "retry":
                return self._sessions.retry(session, frame["id"] or "", self._buckets)
            return self._sessions.accept(session, frame["id"], frame["msg"] or "", self._buckets)
        except RateLimited as error:
            self._told_until = time.monotonic() + (error.retry_after or 0)
            self._refused_until = min(self._told_until, time.monotonic() + _REFUSE_ALONE)
            raise

    def _acknowledge(self, accepted: Accepted) -> None:
        self._metrics.messages_accepted.inc()
        self._send(frames.ack(accepted.id))
        if accepted.reply is not None:
            self._send(frames.message(accepted.reply))
        elif accepted.failure is not None:
            self._send(frames.failure(accepted.id, accepted.failure))

    def _still_lives(self, session: str) -> bool:
        try:
            left = self._sessions.expires_in(session)
        except StoreUnavailable:
            # Not known: look again later.
            left = 1.0
        self._expires_at = time.monotonic() + left
        return left > 0

    def _turn_away(self, reason: str, code: int, told: str) -> None:
        """Closes a socket that was not served; `reason` is one of `SOCKET_REFUSALS`."""
        self._metrics.sockets_refused.labels(reason).inc()
        if reason == "unavailable":
            self._metrics.redis_errors.inc()
        self._close(code, told)

    def _refuse(self, message_id: str | None) -> None:
        self._metrics.messages_refused.labels("unavailable").inc()
        self._send(frames.error(ClientError("unavailable", UNAVAILABLE, message_id=message_id, retry_after=1.0)))

    def _send(self, frame: dict[str, Any]) -> None:
        self._subscriber.send(text_frame(to_json(frame)))

    def _close(self, code: int, reason: str) -> None:
        """Sends a close frame and wakes the reader of frames; does nothing on a socket that is closed."""
        self._closing = True
        try:
            self._ws.close(code, reason)
        except (ConnectionClosed, OSError):
            return
        finally:
            self._ws.event.set()
