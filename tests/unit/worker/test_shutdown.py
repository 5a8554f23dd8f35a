"""What a worker does in the signal handler that begins its shutdown."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from celery import signals
from celery.utils.dispatch import Signal

from chatbot.worker.process import drain_at_shutdown
from chatbot.worker.recovery import Recovery
from chatbot.worker.services import WorkerServices
from devtools.harness.deployment import eventually


class Parts:
    """Recovery, canary and services in one, whose `stop` waits for a lock as an interrupted thread may hold it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls: list[str] = []

    def stop(self) -> None:
        with self.lock:
            self.calls.append("stop")

    def unregister(self) -> None:
        self.calls.append("unregister")

    def drain(self) -> None:
        self.calls.append("drain")


def test_the_handler_waits_for_no_lock_however_many_signals_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "worker_shutting_down", Signal(name="worker_shutting_down"))
    parts: Any = Parts()
    drain_at_shutdown(parts, cast("Recovery", parts), cast("WorkerServices", parts))
    with parts.lock:
        for _ in range(3):
            signals.worker_shutting_down.send(sender="worker@host", sig="SIGTERM", how="Warm", exitcode=0)
        assert parts.calls == []
    eventually(lambda: parts.calls == ["stop", "unregister", "drain"])
