"""What web processes count, and the text of `/metrics`.

Names that begin with `chatbot_web_` are counted by the web processes of this host, which share files under gunicorn:
their sum over hosts is the total. All other names are those of shared_metrics.py, the same on each host. No label holds
a value that a client chose.
"""

from __future__ import annotations

import os
import struct
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from chatbot.telemetry.process_memory import resident_memory
from chatbot.web import metrics_folder

#: Seconds: a millisecond is usual for both histograms, a second is an outage.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: Seconds within which a process that starts has made room in a file that it created.
_START_TIME = 2.0


class WebMetrics:
    """The counters of this process, to be created once, after the fork."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"chatbot_web_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, mode: Any) -> Gauge:
            return Gauge(f"chatbot_web_{name}", text, multiprocess_mode=mode, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"chatbot_web_{name}", text, labels, registry=registry, buckets=_BUCKETS)

        self.processes = gauge("processes", "Web processes", "livesum")
        self.processes.set(1)
        self.sockets = gauge("sockets", "Open websockets", "livesum")
        self.streams = gauge("streams", "Open event streams and waiting polls", "livesum")
        self.sockets_refused = counter("sockets_refused_total", "Connections refused, of all transports", "reason")
        self.slow_clients = counter("slow_clients_total", "Clients closed with 1013 as they read too slowly")
        self.sessions = counter("sessions_created_total", "Sessions created")
        self.messages_accepted = counter("messages_accepted_total", "Messages acknowledged, repeated ones included")
        self.feedback = counter("feedback_total", "Opinions of replies: up, down, withdrawn", "rating")
        self.messages_refused = counter("messages_refused_total", "Frames of clients answered with an error", "code")
        self.requests_refused = counter("requests_refused_total", "HTTP requests answered with an error", "code")
        self.heard = gauge(
            "listener_heard_timestamp_seconds",
            "When the listener last received its own heartbeat, the oldest of all processes",
            "livemin",
        )
        # A new process has not received any heartbeat yet.
        self.heard.set(time.time())
        self.listener_breaks = counter("listener_breaks_total", "Times that the listener lost Redis and reconnected")
        self.enqueue_failures = counter("enqueue_failures_total", "Tasks that the broker did not take at once")
        self.redis_errors = counter("redis_errors_total", "Requests and frames that failed as Redis did not answer")
        self.ack_time = histogram("ack_seconds", "From reading a message to its ack")
        self.loop_lag = histogram("event_loop_lag_seconds", "How much later than asked for a greenlet wakes up")
        self._loop_ran = gauge(
            "event_loop_ran_timestamp_seconds", "When the event loop last ran, the oldest of all processes", "livemin"
        )
        self._loop_ran.set(time.time())
        self.request_time = histogram("request_seconds", "From the head of an HTTP request to its answer", "route")
        self.memory = gauge("memory_bytes", "Resident memory of each web process", "liveall")
        self.memory.set(resident_memory())
        self.errors = counter("errors_total", "Requests and frames that failed by a bug")
        self._create_labels()

    def _create_labels(self) -> None:
        """Shows what did not happen yet as 0."""
        for reason in SOCKET_REFUSALS:
            self.sockets_refused.labels(reason)
        for code in ("rate_limited", "too_many_pending", "unavailable"):
            self.messages_refused.labels(code)
        for rating in ("up", "down", "withdrawn"):
            self.feedback.labels(rating)

    def set_heard(self) -> None:
        """Records that the listener received its heartbeat now."""
        self.heard.set(time.time())

    def observe_loop(self, lag: float) -> None:
        """Records that the event loop runs, `lag` seconds later than it was asked to."""
        self.loop_lag.observe(lag)
        self._loop_ran.set(time.time())

    def exposition(self, shared_metrics: Collector) -> bytes:
        """Prometheus text: the counts of this host's processes, and the numbers of the whole deployment."""
        own = _of_all_processes() if os.environ.get(metrics_folder.VARIABLE) else generate_latest(self._registry)
        shared = CollectorRegistry()
        shared.register(shared_metrics)
        return own + generate_latest(shared)


def _of_all_processes() -> bytes:
    """Prometheus text of the counts of all processes that share the folder.

    A process that starts creates each of its files empty, and makes room in it an instant later: the empty file is
    read again.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    deadline = time.monotonic() + _START_TIME
    while True:
        try:
            return generate_latest(registry)
        except struct.error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


#: Why a connection is refused or closed before it is served: no valid token, too many sockets, too many failed
#: handshakes, a damaged session, no Redis, the process shutting down.
SOCKET_REFUSALS = (
    "not_authenticated",
    "too_many",
    "too_many_in_session",
    "too_many_of_address",
    "failed_handshakes",
    "damaged",
    "unavailable",
    "going_away",
)
