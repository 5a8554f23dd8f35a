"""The log's lines about clients: sessions, sockets and refusals, none with a token or a text of a user.

`session` and `message_id` are those of the workers' lines and of the header that model servers get.
"""

from __future__ import annotations

import logging
import time

from chatbot.logs import bound, client_line

logger = logging.getLogger(__name__)


class SocketLines:
    """A line for the beginning and one for the end of a socket or an event stream."""

    def __init__(self, network: str, what: str = "a socket") -> None:
        """`network` is an IPv4 address or an IPv6 network, as rates count them."""
        self._network = network
        self._what = what
        self._opened_at = 0.0
        #: Frames from the client that were handled.
        self.received = 0

    def opened(self, after: str | None, recovered: bool | None) -> None:
        """The socket has the session's frame and what it missed."""
        self._opened_at = time.monotonic()
        how = "anew" if after is None else "again, recovered" if recovered else "again, too far behind to recover"
        logger.info("%s opens %s, from %s", self._what, how, self._network, extra=client_line("opened"))

    def closed(self, code: int, sent: int) -> None:
        """The socket has ended; without a line if it was refused."""
        if self._opened_at:
            seconds = time.monotonic() - self._opened_at
            line = "%s closes with %d after %.1f s, %d frames received, %d sent"
            logger.info(line, self._what, code, seconds, self.received, sent, extra=client_line("closed"))


def session_created(session: str, network: str) -> None:
    with bound(session=session):
        logger.info("a session begins, from %s", network, extra=client_line())


def session_ended(session: str) -> None:
    with bound(session=session):
        logger.info("a session is ended by its client", extra=client_line())


def refused(what: str, code: str, *, session: str | None = None, message_id: str | None = None) -> None:
    """`what` was refused (a socket, a frame, a request), with a `code` of docs/protocol.md."""
    with bound(session=session, message_id=message_id, code=code):
        logger.info("%s is refused: %s", what, code, extra=client_line(f"{what} {code}"))
