"""What connections to Redis raise when another thread has closed them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from chatbot.store.connections import SSLConnection


class ClosedSocket:
    """As gevent's TLS socket is after `shutdown` in another thread; Python's own reports the end of the stream."""

    def recv_into(self, *_: Any) -> int:
        raise ValueError("Read on closed or unwrapped SSL socket.")

    def sendall(self, *_: Any) -> None:
        raise ValueError("Write on closed or unwrapped SSL socket.")

    def fileno(self) -> int:
        return -1

    def settimeout(self, _: float | None) -> None:
        return

    def shutdown(self, _: int) -> None:
        return

    def close(self) -> None:
        return


@pytest.mark.parametrize(
    "step",
    [
        lambda connection: connection.read_response(),
        lambda connection: connection.send_command("PING"),
        lambda connection: connection.can_read(1),
    ],
)
def test_a_closed_tls_connection_is_a_broken_one(step: Callable[[SSLConnection], Any]) -> None:
    connection: Any = SSLConnection(host="127.0.0.1", port=1, health_check_interval=0)
    connection._sock = ClosedSocket()
    connection._parser.on_connect(connection)
    with pytest.raises(redis.ConnectionError, match="closed"):
        step(connection)
    assert connection._sock is None
