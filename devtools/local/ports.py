"""Which TCP ports can be listened on at 127.0.0.1."""

import errno
import socket
from collections.abc import Collection

HOST = "127.0.0.1"
LOWEST, HIGHEST = 1, 65535


def why_unusable(port: int) -> str | None:
    """Say why a server could not listen on ``127.0.0.1:port``, or return None when it could.

    The answer is "is in use" or "may not be used by this user". Binds as a server would, with SO_REUSEADDR,
    so that sockets in TIME_WAIT do not count. BSD and macOS let 127.0.0.1 be bound beside a listener on all
    addresses, which would still take some of the visitors: so whoever accepts a connection there counts as
    well.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError as error:
            return "may not be used by this user" if error.errno == errno.EACCES else "is in use"
        # While `server` holds the port, the connecting socket cannot be given the same one and meet itself.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)  # seconds; a refusal on the loopback comes at once
            return "is in use" if client.connect_ex((HOST, port)) == 0 else None


def usable_port(start: int, avoid: Collection[int] = ()) -> int | None:
    """Return the first usable port from ``start`` upwards that is not in ``avoid``, None if there is none."""
    return next((port for port in range(start, HIGHEST + 1) if port not in avoid and why_unusable(port) is None), None)
