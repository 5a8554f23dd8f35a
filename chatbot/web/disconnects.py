"""Notices that a client has disconnected before its request is served."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any


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
