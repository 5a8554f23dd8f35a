"""Why the server closes a websocket: each close code (RFC 6455, section 7.4) with its reason, and when it is sent.

Two more come from simple-websocket: 1008 "Ping/Pong timeout", and 1009 "Message is too big" for fragmented messages.
What clients should do is in docs/protocol.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Closing(NamedTuple):
    """A close frame's code and reason."""

    code: int
    reason: str


#: The web process is shutting down.
GOING_AWAY = Closing(1001, "The server is going away: reconnect")
#: The socket may have missed events and cannot be brought up to date; a reconnect with `after` can.
OUT_OF_DATE = Closing(1001, "Reconnect")

#: The token is missing or unknown.
NOT_AUTHENTICATED = Closing(1008, "Session not authenticated or expired token")
#: The session expired while the socket was open.
EXPIRED = Closing(1008, "Session expired")

#: What is stored of the session cannot be read.
DAMAGED = Closing(1008, "This chat can no longer be read: start a new session")

#: A frame is larger than allowed.
TOO_BIG = Closing(1009, "Message is too big")

#: This web process has `MAX_SOCKETS` sockets.
TOO_MANY_SOCKETS = Closing(1013, "Too many connections: try again later")
#: The session has `MAX_SOCKETS_PER_SESSION` sockets.
TOO_MANY_IN_SESSION = Closing(1013, "Too many connections in this session: close one")
#: Redis does not answer, or too many events arrived during a replay.
TRY_LATER = Closing(1013, "Try again later")
#: The client does not read what it is sent.
SLOW_CLIENT = Closing(1013, "This client reads too slowly")
