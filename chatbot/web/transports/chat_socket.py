"""The websocket `/chat`: reads a client's frames and sends the server's, for as long as the session lives."""

from __future__ import annotations

import logging
import time

from simple_websocket import ConnectionClosed

from chatbot.logs import bound
from chatbot.protocol import close_codes
from chatbot.protocol.client_errors import SessionNotFound
from chatbot.protocol.close_codes import Closing
from chatbot.sessions.ids import session_id
from chatbot.web.client_lines import SocketLines
from chatbot.web.fanout.subscriber import Subscriber
from chatbot.web.services import Services
from chatbot.web.transports.connections import Connection, Refused
from chatbot.web.transports.frame_handler import MAX_FRAME, FrameHandler
from chatbot.web.transports.websocket import WebSocket

logger = logging.getLogger(__name__)


class ChatSocket:
    """Serves one websocket. `run` returns when the socket is closed."""

    def __init__(self, ws: WebSocket, services: Services) -> None:
        self._ws = ws
        self._services = services
        self._closing = False

    def run(self, token: str | None, after: str | None, network: str) -> None:
        """Serves the session of `token` to a client in `network`, from the message `after` on."""
        session = session_id(token or "")
        self._subscriber = Subscriber(session, self._ws.outbox.send, self._close)
        self._connection = Connection(self._services, self._subscriber, network, "a socket")
        self._lines = SocketLines(network)
        self._delay_after = self._services.frame_rates.of_socket()
        self._ws.throttle(self._services.frame_rates.of_bytes())
        metrics = self._services.metrics
        try:
            with bound(session=session if token else None), metrics.sockets.track_inprogress():
                self._serve(bool(token), after, network)
        except ConnectionClosed:
            logger.debug("the connection ended")
        finally:
            self._ws.dispose()
            # They refer to this object: without the cycle all are freed at once.
            del self._subscriber, self._connection

    def _serve(self, has_token: bool, after: str | None, network: str) -> None:
        """Admits the socket, then serves it."""
        try:
            snapshot = self._connection.open(has_token, after=after)
            if not self._connection.replay(snapshot, self._ws.outbox):
                self._close(close_codes.SLOW_CLIENT)
            self._lines.opened(after, snapshot.recovered)
            del snapshot
            self._receive_frames(network)
        except Refused as refusal:
            self._close(refusal.closing)
        finally:
            self._connection.close()
            self._lines.closed(self._ws.close_code, self._subscriber.frames_sent)

    def _receive_frames(self, network: str) -> None:
        lifetime, subscriber = self._connection.lifetime, self._subscriber
        handler = FrameHandler(
            self._services, subscriber.session, network, subscriber.send_frame, lifetime.renewed, subscriber
        )
        while not self._closing:
            data = self._ws.receive(timeout=lifetime.until_check())
            try:
                if data is not None:
                    self._lines.received += 1
                    self._handle(handler, data)
                    # Neither a buffered frame nor its refusal blocks: without this a flood would hold the process.
                    time.sleep(0)
                    if self._delay_after is not None and (delay := self._delay_after(1)):
                        time.sleep(delay)
                elif lifetime.over():
                    self._close(close_codes.EXPIRED)
            except SessionNotFound:
                self._close(close_codes.EXPIRED)

    def _handle(self, handler: FrameHandler, data: str | bytes) -> None:
        if isinstance(data, str) and len(data) * 4 > MAX_FRAME and len(data.encode()) > MAX_FRAME:
            return self._close(close_codes.TOO_BIG)
        # The answer goes out before the events that the frame causes.
        self._subscriber.hold()
        try:
            handler.handle(data)
        finally:
            self._connection.release()
        return None

    def _close(self, closing: Closing) -> None:
        self._closing = True
        self._ws.end(closing)
