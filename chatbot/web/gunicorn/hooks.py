"""gunicorn's server hooks: what happens when its master and its web processes start and end.

gunicorn.conf.py imports this module before gevent has patched the standard library. So it imports nothing of the
application, and looks `time.sleep` and `threading.Thread` up when it calls them.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from chatbot import logs, tracing
from chatbot.config import garbage_collection, open_files
from chatbot.telemetry.process_memory import resident_memory
from chatbot.web import metrics_folder, start_checks

if TYPE_CHECKING:
    from chatbot.web.fanout.hub import Hub
    from chatbot.web.metrics import WebMetrics

#: Seconds over which the closing of sockets is spread, so that not all clients reconnect at once.
_CLOSE_SPREAD = 1.5
#: Seconds between two checks of whether the process shuts down.
_POLL = 0.1
#: Seconds between two measurements of the resident memory.
_MEMORY_INTERVAL = 2.0
#: Seconds between two trims of memory, and sockets up to which a trim's pause is a few ms.
_TRIM_INTERVAL, _TRIM_MAX_SOCKETS = 15.0, 200


def on_starting(server: Any) -> None:
    """In the master, before it forks."""
    start_checks.check_master(server.cfg)
    open_files.raise_limit()
    metrics_folder.remove_abandoned()
    metrics_folder.create()


def when_ready(_: Any) -> None:
    """In the master, once it listens."""
    logs.mark_started()


def on_exit(_: Any) -> None:
    """In the master, at its end."""
    metrics_folder.remove()


def child_exit(_: Any, worker: Any) -> None:
    """In the master, after a process has ended: its gauges, such as open sockets, no longer count; its counters do."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """In a new process, once it has loaded the application."""
    # The application serves the path below it, with the prefix or without; gunicorn would refuse paths without it.
    os.environ.pop("SCRIPT_NAME", None)
    tracing.start("web")
    services = worker.wsgi.extensions["chatbot"]
    hub = services.hub
    hub.start()
    if worker.age == 1:
        # One of several processes reports it.
        from chatbot.web.readiness import report_redis

        urls = services.settings.redis.urls
        threading.Thread(target=report_redis, args=(urls,), name="redis report", daemon=True).start()
    services.key_access.bind(worker.cfg.address)
    garbage_collection.tune()
    threading.Thread(target=_attend, args=(worker, hub, services.metrics), name="attendant", daemon=True).start()


def worker_exit(_: Any, worker: Any) -> None:
    """In a process at its end: skips the interpreter's shutdown, in which gevent's leftovers log errors."""
    if worker.booted and not worker.alive:
        tracing.finish()
        logs.finish()
        os._exit(0)


def _attend(worker: Any, hub: Hub, metrics: WebMetrics) -> None:
    """Measures the event loop's lag and the memory, trims memory now and then, and closes the sockets on shutdown.

    gunicorn would wait for the sockets, then cut them.
    """
    trimmed = measured = time.monotonic()
    sockets = 0
    while worker.alive:
        due = time.monotonic() + _POLL
        time.sleep(_POLL)
        now = time.monotonic()
        metrics.observe_loop(max(now - due, 0))
        if now - measured > _MEMORY_INTERVAL:
            metrics.memory.set(resident_memory())
            measured = now
        # Not in the middle of a rush.
        calm, sockets = len(hub) == sockets < _TRIM_MAX_SOCKETS, len(hub)
        if calm and time.monotonic() - trimmed > _TRIM_INTERVAL:
            garbage_collection.trim()
            trimmed = time.monotonic()
    hub.go_away(_CLOSE_SPREAD)
