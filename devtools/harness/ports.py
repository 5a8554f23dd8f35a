"""Ports of the loopback address for the servers that tests, tools and benchmarks start."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

from devtools.local.ports import LOOPBACK

#: The system gives no process a port below 32768 (ip_local_port_range of ip(7); 49152 on BSD and macOS) of its own
#: accord. One from above may go to any outgoing connection before its server listens on it, or while that restarts.
FIRST, END = 20_000, 32_700
#: How many ports a process reserves at once.
_BLOCK = 100


def _reserved_ports() -> Iterator[int]:
    """The ports of one block after another, each block reserved for this process.

    A UDP socket on its first port reserves a block. TCP servers can listen on the same number.
    """
    blocks = list(range(FIRST, END, _BLOCK))
    random.shuffle(blocks)
    for first in blocks:
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind((LOOPBACK, first))
        except OSError:
            # Another process has the block.
            reservation.close()
            continue
        reservation.detach()  # Open as long as the process lives.
        yield from range(first, first + _BLOCK)


_ports = _reserved_ports()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on and no other process is given.

    Each call returns another port. Raises `RuntimeError` when all are in use.
    """
    for port in _ports:
        with socket.socket() as sock:
            try:
                sock.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"all ports from {FIRST} to {END} are in use")
