"""TCP ports of the loopback address: which can be listened on."""

import errno
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
LOWEST, HIGHEST = 1, 65535


def why_unusable(port: int) -> str | None:
    """Return why no server can listen on ``127.0.0.1:port``, None when one can.

    The answer is "is in use" or "may not be used by this user". Binds as a server would, with SO_REUSEADDR,
    so that sockets in TIME_WAIT do not count. BSD and macOS let 127.0.0.1 be bound beside a listener on all
    addresses, which would still take some of the connections: so a port that accepts a connection counts as
    in use too.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except OSError as error:
            return "may not be used by this user" if error.errno == errno.EACCES else "is in use"
        # While `server` holds the port, the connecting socket cannot get the same port and connect to itself.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)  # seconds; a refusal on the loopback comes at once
            return "is in use" if client.connect_ex((LOOPBACK, port)) == 0 else None


def usable_port(start: int, avoid: Collection[int] = ()) -> int | None:
    """Return the first usable port from ``start`` upwards that is not in ``avoid``, None if all are in use."""
    return next((port for port in range(start, HIGHEST + 1) if port not in avoid and why_unusable(port) is None), None)
