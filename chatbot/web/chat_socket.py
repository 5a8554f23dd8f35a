"""The websocket `/chat`: reads a client's frames and sends the server's, for as long as the session lives."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from simple_websocket import ConnectionClosed

from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol import close_codes, frames
from chatbot.protocol.client_errors import ClientError, SessionDamaged, SessionNotFound
from chatbot.protocol.client_frames import ClientFrame, parse_frame
from chatbot.protocol.close_codes import Closing
from chatbot.protocol.events import to_json
from chatbot.sessions.ids import session_id
from chatbot.sessions.messages import Snapshot
from chatbot.sessions.requests import Accepted
from chatbot.web.client_lines import SocketLines, refused
from chatbot.web.hub import replay
from chatbot.web.outbox import SEND_DEADLINE, text_frame
from chatbot.web.services import Services
from chatbot.web.subscriber import Subscriber
from chatbot.web.websocket import WebSocket

logger = logging.getLogger(__name__)

#: Bytes of a client's frame.
MAX_FRAME = 64 * 1024
#: Bytes queued for a client at which a replay pauses: more than a page, so that the snapshot of a client that does not
#: read is freed at once.
_REPLAY_QUEUED = 512 * 1024
#: Seconds between two checks of whether the session still exists, at most.
_EXPIRY_CHECK_INTERVAL = 30.0

UNAVAILABLE = "The chat is not available right now: send this again in a moment"


class ChatSocket:
    """Serves one websocket. `run` returns when the socket is closed."""

    def __init__(self, ws: WebSocket, services: Services) -> None:
        self._ws = ws
        self._outbox = ws.outbox
        self._sessions = services.sessions
        self._hub = services.hub
        self._enqueuer = services.enqueuer
        self._rate_limits = services.rate_limits
        self._socket_limit = services.socket_limit
        self._address_limits = services.address_limits
        self._settings = services.settings
        self._metrics = services.metrics
        self._closing = False
        # A monotonic time; other sockets of the session may have renewed it since.
        self._expires_at = 0.0

    def run(self, token: str | None, after: str | None, network: str) -> None:
        """Serves the session of `token` to a client in `network`, from the message `after` on."""
        session = session_id(token or "")
        self._subscriber = Subscriber(session, self._outbox.send, self._close)
        self._network = network
        self._lines = SocketLines(network)
        self._buckets = self._rate_limits.messages(session, network)
        self._frame_pace = self._rate_limits.frame_pace()
        self._ws.set_pace(self._rate_limits.read_pace())
        try:
            with bound(session=session if token else None), self._metrics.sockets.track_inprogress():
                self._serve(session, bool(token), after)
        except ConnectionClosed:
            logger.debug("the connection ended")
        finally:
            self._ws.dispose()
            # The subscriber refers to this object: without the cycle both are freed at once.
            del self._subscriber

    def _serve(self, session: str, has_token: bool, after: str | None) -> None:
        """Admits the socket, then serves it."""
        try:
            if not has_token:
                return self._reject("not_authenticated", close_codes.NOT_AUTHENTICATED)
            if len(self._hub) >= self._settings.limits.max_sockets:
                return self._reject("too_many", close_codes.TOO_MANY_SOCKETS)
            with self._hub.attach_slot():
                admission = self._socket_limit.acquire(session)
            if admission is None:
                return self._reject("too_many_in_session", close_codes.TOO_MANY_IN_SESSION)
        except SessionNotFound:
            return self._reject("not_authenticated", close_codes.NOT_AUTHENTICATED)
        except SessionDamaged:
            return self._reject("damaged", close_codes.DAMAGED)
        except StoreUnavailable as error:
            return self._reject_for_redis(error)
        try:
            self._attach(session, after)
            self._receive_frames(session)
        finally:
            self._hub.detach(self._subscriber)
            self._lines.closed(self._ws.close_code, self._subscriber.frames_sent)
            # When the process ends its channel has no subscriber, and its sockets count no longer.
            if not self._hub.leaving:
                self._socket_limit.release(session, admission)

    def _attach(self, session: str, after: str | None) -> None:
        """Subscribes to the session's events, and replays what is stored."""
        try:
            with self._hub.attach_slot():
                self._hub.attach(self._subscriber)
                if self._hub.leaving:
                    return self._reject("going_away", close_codes.GOING_AWAY)
                reads = self._rate_limits.reads(session, self._network)
                snapshot = self._sessions.snapshot(session, after=after, buckets=reads)
            self._replay(session, snapshot)
            self._lines.opened(after, snapshot.recovered)
        except SessionNotFound:
            self._reject("not_authenticated", close_codes.NOT_AUTHENTICATED)
        except SessionDamaged:
            self._reject("damaged", close_codes.DAMAGED)
        except StoreUnavailable as error:
            self._reject_for_redis(error)

    def _receive_frames(self, session: str) -> None:
        while not self._closing:
            wait = min(max(self._expires_at - time.monotonic(), 0) + 0.05, _EXPIRY_CHECK_INTERVAL)
            data = self._ws.receive(timeout=wait)
            try:
                if data is not None:
                    self._lines.received += 1
                    self._handle(session, data)
                    # Neither a buffered frame nor its refusal blocks: without this a flood would hold the process.
                    time.sleep(0)
                    if self._frame_pace is not None and (delay := self._frame_pace(1)):
                        time.sleep(delay)
                elif time.monotonic() >= self._expires_at and not self._session_exists(session):
                    self._close(close_codes.EXPIRED)
            except SessionNotFound:
                self._close(close_codes.EXPIRED)

    def _replay(self, session: str, snapshot: Snapshot) -> None:
        self._expires_at = time.monotonic() + snapshot.expires_in
        self._send(
            frames.session_frame(
                snapshot.name,
                snapshot.session_start,
                snapshot.expires_in,
                snapshot.recovered,
                snapshot.pending,
                snapshot.leaf,
                {request: snapshot.requests[request] for request in snapshot.pending if request in snapshot.requests},
            )
        )
        for frame in replay(session, snapshot):
            if not self._outbox.wait_until_below(_REPLAY_QUEUED, SEND_DEADLINE):
                if not self._outbox.slow:
                    self._metrics.slow_clients.inc()
                self._close(close_codes.SLOW_CLIENT)
                return
            self._send(frame)
            time.sleep(0)
        if not self._subscriber.release(snapshot) or self._subscriber.missed:
            self._hub.resync([self._subscriber])

    def _handle(self, session: str, data: str | bytes) -> None:
        message_id = None
        try:
            if isinstance(data, bytes):
                raise ClientError("binary_not_supported", "Send text frames")
            if len(data) * 4 > MAX_FRAME and len(data.encode()) > MAX_FRAME:
                return self._close(close_codes.TOO_BIG)
            frame = parse_frame(data, self._settings.limits.max_message_length)
            message_id = frame.id
            # The answer goes out before the events that the frame causes.
            self._subscriber.hold()
            try:
                self._execute(session, frame)
            finally:
                if not self._subscriber.release():
                    self._hub.resync([self._subscriber])
        except SessionNotFound:
            raise
        except ClientError as error:
            self._metrics.messages_refused.labels(error.code).inc()
            error.message_id = error.message_id or message_id
            refused("a frame", error.code, message_id=error.message_id)
            self._send(frames.error(error))
        except StoreUnavailable as error:
            self._metrics.redis_errors.inc()
            with bound(message_id=message_id, code="unavailable"):
                logger.warning("a frame could not be carried out: %s", error)
            self._refuse(message_id)
        except Exception:
            self._metrics.errors.inc()
            with bound(message_id=message_id, code="unavailable"):
                logger.exception("a frame could not be carried out")
            self._refuse(message_id)

    def _execute(self, session: str, frame: ClientFrame) -> None:
        if frame.type == "stop":
            if self._sessions.stop(session):
                self._enqueuer.enqueue(session)
        elif frame.type == "select":
            self._sessions.select(session, frame.id or "")
            self._renewed(session)
        elif frame.type == "feedback":
            self._sessions.rate(session, frame.id or "", frame.rating, frame.text)
            self._metrics.feedback.labels(frame.rating or "withdrawn").inc()
            self._renewed(session)
        else:
            self._request(session, frame)

    def _request(self, session: str, frame: ClientFrame) -> None:
        """Stores what asks for a reply, and acknowledges it."""
        began = time.monotonic()
        given = frame.id or uuid.uuid4().hex
        self._subscriber.sending(given)
        try:
            accepted = self._accept(session, frame, given)
        except ClientError:
            self._subscriber.not_published(given)
            raise
        if not accepted.published:
            self._subscriber.not_published(given)
        self._renewed(session)
        self._acknowledge(accepted)
        self._metrics.ack_time.observe(time.monotonic() - began)
        if accepted.wake:
            self._enqueuer.enqueue(session)

    def _accept(self, session: str, frame: ClientFrame, given: str) -> Accepted:
        limits = self._buckets, self._network
        if frame.type == "retry":
            return self._sessions.retry(session, given, *limits)
        if frame.type == "regenerate":
            return self._sessions.regenerate(session, frame.of, given, *limits, on_busy=frame.on_busy)
        if frame.type == "edit":
            return self._sessions.edit(session, frame.of, given, frame.msg, *limits, on_busy=frame.on_busy)
        return self._sessions.accept(session, given, frame.msg, *limits, parent=frame.parent, on_busy=frame.on_busy)

    def _acknowledge(self, accepted: Accepted) -> None:
        self._metrics.messages_accepted.inc()
        self._send(frames.ack(accepted.id, accepted.about))
        if accepted.reply is not None:
            self._send(frames.message(accepted.reply))
        elif accepted.failure is not None:
            self._send(frames.failure(accepted.id, accepted.failure, accepted.about.get("reply_to")))

    def _renewed(self, session: str) -> None:
        if self._settings.limits.max_session_age:
            # How far the time to live was renewed depends on the session's start.
            self._session_exists(session)
        else:
            self._expires_at = time.monotonic() + self._settings.limits.session_ttl

    def _session_exists(self, session: str) -> bool:
        try:
            left = self._sessions.expires_in(session)
        except StoreUnavailable:
            # Unknown: check again in a second.
            left = 1.0
        self._expires_at = time.monotonic() + left
        return left > 0

    def _reject(self, reason: str, closing: Closing) -> None:
        """Closes a socket that was not served; `reason` is one of `SOCKET_REFUSALS`."""
        self._metrics.sockets_refused.labels(reason).inc()
        refused("a socket", reason)
        if reason == "not_authenticated":
            self._address_limits.count_failure(self._network)
        self._close(closing)

    def _reject_for_redis(self, error: StoreUnavailable) -> None:
        logger.warning("a socket could not be attached: %s", error)
        self._metrics.redis_errors.inc()
        self._reject("unavailable", close_codes.TRY_LATER)

    def _refuse(self, message_id: str | None) -> None:
        self._metrics.messages_refused.labels("unavailable").inc()
        self._send(frames.error(ClientError("unavailable", UNAVAILABLE, message_id=message_id, retry_after=1.0)))

    def _send(self, frame: dict[str, Any]) -> None:
        self._subscriber.send(text_frame(to_json(frame)))

    def _close(self, closing: Closing) -> None:
        self._closing = True
        self._ws.end(closing)
