"""Carries out the frames of a client, on whatever transport they come."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chatbot.errors import StoreUnavailable
from chatbot.logs import bound
from chatbot.protocol import frames
from chatbot.protocol.client_errors import UNAVAILABLE, ClientError, SessionNotFound
from chatbot.protocol.client_frames import ClientFrame, parse_frame
from chatbot.sessions.requests import Accepted, Terms
from chatbot.web.client_lines import refused
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.services import Services
from chatbot.web.traces import accepting

logger = logging.getLogger(__name__)

#: Bytes of a client's frame.
MAX_FRAME = 64 * 1024
#: Seconds that an `ack` waits for events from before its request: they take as long as Redis' answer unless some were
#: lost, then as long as a snapshot. Should they not come, the client gets its `ack` all the same.
_EARLIER_EVENTS = 0.5


class FrameHandler:
    """Carries out the frames of one client of a session, and sends it the answers."""

    def __init__(
        self,
        services: Services,
        session: str,
        network: str,
        send: Callable[[dict[str, Any]], None],
        renewed: Callable[[], None] = lambda: None,
        subscriber: Subscriber | None = None,
    ) -> None:
        """`send` sends a frame to the client, in `network`; `renewed` is called when the session was used.

        A `subscriber` that gets the session's events on the same connection is not sent this client's own messages.
        """
        self._sessions = services.sessions
        self._requests = services.sessions.requests
        self._enqueuer = services.enqueuer
        self._hub = services.hub
        self._metrics = services.metrics
        self._max_length = services.settings.limits.max_message_length
        self._session = session
        self._terms = Terms(services.rate_limits.messages(session, network), network)
        self._send = send
        self._renewed = renewed
        self._subscriber = subscriber

    def handle(self, data: str | bytes) -> ClientError | None:
        """Carries out one frame; returns the error whose frame was sent, if any. Raises `SessionNotFound`."""
        message_id = None
        try:
            if isinstance(data, bytes):
                raise ClientError("binary_not_supported", "Send text frames")
            frame = parse_frame(data, self._max_length)
            message_id = frame.id
            self._execute(frame)
        except SessionNotFound:
            raise
        except ClientError as error:
            error.message_id = error.message_id or message_id
            refused("a frame", error.code, message_id=error.message_id)
            return self._refuse(error)
        except StoreUnavailable as error:
            self._metrics.redis_errors.inc()
            with bound(message_id=message_id, code="unavailable"):
                logger.warning("a frame could not be carried out: %s", error)
            return self._refuse(_unavailable(message_id))
        except Exception:
            self._metrics.errors.inc()
            with bound(message_id=message_id, code="unavailable"):
                logger.exception("a frame could not be carried out")
            return self._refuse(_unavailable(message_id))
        return None

    def _refuse(self, error: ClientError) -> ClientError:
        self._metrics.messages_refused.labels(error.code).inc()
        self._send(frames.error(error))
        return error

    def _execute(self, frame: ClientFrame) -> None:
        if frame.type == "stop":
            if self._requests.stop(self._session):
                self._enqueuer.enqueue(self._session)
        elif frame.type == "select":
            self._sessions.select(self._session, frame.id or "")
            self._renewed()
        elif frame.type == "feedback":
            self._sessions.rate(self._session, frame.id or "", frame.rating, frame.text)
            self._metrics.feedback.labels(frame.rating or "withdrawn").inc()
            self._renewed()
        else:
            self._request(frame)

    def _request(self, frame: ClientFrame) -> None:
        """Stores what asks for a reply, and acknowledges it."""
        began = time.monotonic()
        given = frame.id or uuid.uuid4().hex
        with bound(message_id=given), accepting(frame.type, self._session, given):
            with self._acknowledged_first():
                with self._enqueuer.in_doubt(self._session, given):
                    accepted = self._accept(frame, given)
                self._renewed()
                self._acknowledge(accepted)
            self._metrics.ack_time.observe(time.monotonic() - began)
            if accepted.wake:
                self._enqueuer.enqueue(self._session, accepted.id)

    @contextmanager
    def _acknowledged_first(self) -> Iterator[None]:
        """Holds the session's events, as a reply may begin before Redis' answer to the step has been read."""
        if self._subscriber is None:
            yield
            return
        self._subscriber.hold()
        try:
            yield
        finally:
            if not self._subscriber.release():
                self._hub.resync([self._subscriber])

    def _accept(self, frame: ClientFrame, given: str) -> Accepted:
        if self._subscriber is None:
            return self._store(frame, given)
        self._subscriber.sending(given)
        try:
            accepted = self._store(frame, given)
        except ClientError:
            self._subscriber.not_published(given)
            raise
        if accepted.event:
            self._send_earlier(self._subscriber, accepted.event)
        else:
            self._subscriber.not_published(given)
        return accepted

    def _send_earlier(self, subscriber: Subscriber, event: int) -> None:
        """Sends what was published before a request: the client may reconnect with `after` and the request's id.

        Redis' answer may have overtaken events, which come on another connection.
        """
        if not subscriber.pass_before(event, _EARLIER_EVENTS):
            self._hub.resync([subscriber])
            subscriber.pass_before(event, _EARLIER_EVENTS)

    def _store(self, frame: ClientFrame, given: str) -> Accepted:
        session, terms = self._session, self._terms._replace(on_busy=frame.on_busy)
        if frame.type == "retry":
            return self._requests.retry(session, given, self._terms)
        if frame.type == "regenerate":
            return self._requests.regenerate(session, frame.of, given, terms)
        if frame.type == "edit":
            return self._requests.edit(session, frame.of, given, frame.msg, terms)
        return self._requests.accept(session, given, frame.msg, terms, parent=frame.parent)

    def _acknowledge(self, accepted: Accepted) -> None:
        self._metrics.messages_accepted.inc()
        self._send(frames.ack(accepted.id, accepted.about))
        if accepted.reply is not None:
            self._send(frames.message(accepted.reply))
        elif accepted.failure is not None:
            self._send(frames.failure(accepted.id, accepted.failure, accepted.about.get("reply_to")))


def _unavailable(message_id: str | None) -> ClientError:
    return ClientError("unavailable", UNAVAILABLE, status=503, message_id=message_id, retry_after=1.0)
