"""Notices that a client has disconnected before its request is served."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import Any

from gevent import monkey

#: gevent's poll knows no events but readable and writable. Linux alone reports the client's end before the last byte.
_poll = monkey.get_original("select", "poll")
_ENDED = getattr(select, "POLLRDHUP", select.POLLHUP)


def connection_of(environ: dict[str, Any]) -> socket.socket:
    """The socket of a request under gunicorn. Raises `RuntimeError` under another server."""
    sock = environ.get("gunicorn.socket")
    if sock is None:
        raise RuntimeError("this route needs gunicorn")
    found: socket.socket = sock
    return found


def raise_if_disconnected(environ: dict[str, Any]) -> None:
    """Raises `ConnectionAbortedError` when the client of a request under gunicorn has closed its connection.

    Costs one system call. Over TLS it finds nothing, for encrypted bytes cannot be read in advance.
    """
    sock = environ.get("gunicorn.socket")
    if sock is None or isinstance(sock, ssl.SSLSocket):
        return
    # gevent's socket would wait.
    plain = getattr(sock, "_sock", sock)
    with contextlib.suppress(BlockingIOError, InterruptedError):
        if not plain.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            raise ConnectionAbortedError("the client closed its connection before its request was served")


def has_ended(sock: socket.socket) -> bool:
    """Whether the peer has closed its side, even if there is more to read; does not wait."""
    poll = _poll()
    poll.register(sock.fileno(), _ENDED)
    return bool(poll.poll(0))


def has_disconnected(environ: dict[str, Any]) -> bool:
    """Whether the client of a request under gunicorn has closed its connection; over TLS too."""
    return has_ended(connection_of(environ))
