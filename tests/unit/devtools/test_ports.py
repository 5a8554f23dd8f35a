"""No two processes of a parallel run choose the same port, and the system gives it to no connection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devtools.harness.ports import END, FIRST, free_port
from devtools.paths import ROOT

_HOLD = "from devtools.harness.ports import free_port; print(*(free_port() for _ in range(150)), flush=True); input()"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_processes_are_given_different_ports() -> None:
    holding = [
        subprocess.Popen([sys.executable, "-c", _HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        given = [free_port()]
        for process in holding:
            assert process.stdout
            given += map(int, process.stdout.readline().split())
    finally:
        for process in holding:
            process.communicate(b"\n")
    assert len(set(given)) == len(given) == 301


@pytest.mark.skipif(not _EPHEMERAL.exists(), reason="only Linux says which ports it gives to connections")
def test_the_system_gives_none_of_the_ports_to_a_connection() -> None:
    lowest = int(_EPHEMERAL.read_text().split()[0])
    if lowest < END:
        pytest.skip(f"this system gives connections ports from {lowest}")
    assert FIRST <= free_port() < lowest
