"""The websocket `/chat`: frames in, frames out, for as long as the session lives."""

from __future__ import annotations

import logging
import time
from typing import Any

from simple_websocket import ConnectionClosed, Server

from chatbot.config import Settings
from chatbot.errors import ClientError, SessionNotFound, StoreUnavailable
from chatbot.events import to_json
from chatbot.logs import bound
from chatbot.schemas import error_frame, parse_frame
from chatbot.sessions import Accepted, Sessions, Snapshot, session_id
from chatbot.web.enqueue import Enqueuer
from chatbot.web.hub import GOING_AWAY, Hub, Subscriber, replay
from chatbot.web.transport import LINGER, SEND_DEADLINE, Transport, text_frame

logger = logging.getLogger(__name__)

#: Bytes of a client's frame.
MAX_FRAME = 64 * 1024
#: Bytes that may wait for a client before a replay waits for it.
_REPLAY_AHEAD = 256 * 1024
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
        sessions: Sessions,
        hub: Hub,
        enqueuer: Enqueuer,
        settings: Settings,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._sessions = sessions
        self._hub = hub
        self._enqueuer = enqueuer
        self._settings = settings
        # A monotonic time; what others do in the session may have moved it further.
        self._expires_at = 0.0

    def run(self, token: str | None, after: str | None) -> None:
        """Serves the session of `token`, going on after the message `after`."""
        session = session_id(token or "")
        self._subscriber = Subscriber(session, self._transport.send, self._close)
        try:
            with bound(session=session):
                self._serve(session, bool(token), after)
        except ConnectionClosed:
            logger.debug("socket closed")
        finally:
            self._hub.detach(self._subscriber)
            self._transport.wait_closed(LINGER + 0.5)
            self._transport.abort()

    def _serve(self, session: str, has_token: bool, after: str | None) -> None:
        try:
            if not has_token:
                return self._close(POLICY, NOT_AUTHENTICATED)
            with self._hub.turn():
                if not self._sessions.expires_in(session):
                    return self._close(POLICY, NOT_AUTHENTICATED)
                if len(self._hub) >= self._settings.max_sockets:
                    return self._close(TRY_LATER, "Too many connections: try again later")
                self._hub.attach(self._subscriber)
                if self._hub.leaving:
                    return self._close(*GOING_AWAY)
                snapshot = self._sessions.snapshot(session, after=after)
            self._replay(session, snapshot)
        except SessionNotFound:
            return self._close(POLICY, NOT_AUTHENTICATED)
        except StoreUnavailable as error:
            logger.warning("a socket could not be attached: %s", error)
            return self._close(TRY_LATER, "Try again later")
        while True:
            wait = min(max(self._expires_at - time.monotonic(), 0) + 0.05, _LOOK_INTERVAL)
            data = self._ws.receive(timeout=wait)
            try:
                if data is not None:
                    self._handle(session, data)
                elif time.monotonic() >= self._expires_at and not self._still_lives(session):
                    return self._close(POLICY, EXPIRED)
            except SessionNotFound:
                return self._close(POLICY, EXPIRED)

    def _replay(self, session: str, snapshot: Snapshot) -> None:
        self._expires_at = time.monotonic() + snapshot.expires_in
        self._send(
            {
                "type": "session",
                "name": snapshot.name,
                "session_start": snapshot.session_start,
                "expires_in": round(snapshot.expires_in),
                "recovered": snapshot.recovered,
                "pending": snapshot.pending,
            }
        )
        for frame in replay(session, snapshot):
            if not self._transport.wait_until_below(_REPLAY_AHEAD, SEND_DEADLINE):
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
            frame = parse_frame(data, self._settings.max_message_length)
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
            self._send(error_frame(error))
        except StoreUnavailable as error:
            logger.warning("a frame could not be carried out: %s", error)
            self._refuse(message_id)
        except ConnectionClosed:
            raise
        except Exception:
            logger.exception("a frame could not be carried out")
            self._refuse(message_id)

    def _carry_out(self, session: str, frame: dict[str, str | None]) -> None:
        if frame["type"] == "stop":
            if self._sessions.stop(session):
                self._enqueuer.enqueue(session)
            return
        if frame["type"] == "retry":
            accepted = self._sessions.retry(session, frame["id"] or "")
        else:
            accepted = self._sessions.accept(session, frame["id"], frame["msg"] or "")
        self._expires_at = time.monotonic() + self._settings.session_ttl
        self._acknowledge(accepted)
        if accepted.wake:
            self._enqueuer.enqueue(session)

    def _acknowledge(self, accepted: Accepted) -> None:
        self._send({"type": "ack", "id": accepted.id})
        if accepted.reply is not None:
            self._send({"type": "message", **accepted.reply})
        elif accepted.failure is not None:
            self._send(error_frame(ClientError("model_error", accepted.failure, message_id=accepted.id)))

    def _still_lives(self, session: str) -> bool:
        try:
            left = self._sessions.expires_in(session)
        except StoreUnavailable:
            # Not known: look again later.
            left = 1.0
        self._expires_at = time.monotonic() + left
        return left > 0

    def _refuse(self, message_id: str | None) -> None:
        self._send(error_frame(ClientError("unavailable", UNAVAILABLE, message_id=message_id, retry_after=1.0)))

    def _send(self, frame: dict[str, Any]) -> None:
        self._subscriber.send(text_frame(to_json(frame)))

    def _close(self, code: int, reason: str) -> None:
        """Sends a close frame and wakes the reader of frames; does nothing on a socket that is closed."""
        try:
            self._ws.close(code, reason)
        except (ConnectionClosed, OSError):
            return
        finally:
            self._ws.event.set()
