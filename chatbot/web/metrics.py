"""What `/metrics` answers.

Names that begin with `chatbot_web_` are counted by the web processes of this host, in files that they share where
gunicorn runs several: add them up over hosts. All other names come out of Redis and are those of the whole deployment,
the same whichever host is asked: take the greatest. No label holds anything that a client chose.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import KombuError
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from chatbot.errors import StoreUnavailable
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.queue_delay import QueueDelay
from chatbot.telemetry import counters, liveness

logger = logging.getLogger(__name__)

#: Seconds that Redis and the broker are given together: less than a scraper waits.
_PATIENCE = 4.0
#: Where the processes of one gunicorn share what they count: see gunicorn.conf.py.
_SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class WebMetrics:
    """The counters of this process. Make it once a process, after the fork."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"chatbot_web_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, mode: Any) -> Gauge:
            return Gauge(f"chatbot_web_{name}", text, multiprocess_mode=mode, registry=registry)

        self.processes = gauge("processes", "Web processes", "livesum")
        self.processes.set(1)
        self.sockets = gauge("sockets", "Open websockets", "livesum")
        self.sockets_refused = counter("sockets_refused_total", "Websockets closed before they were served", "reason")
        self.slow_clients = counter("slow_clients_total", "Clients cut off with 1013, as they read too slowly")
        self.sessions = counter("sessions_created_total", "Sessions begun")
        self.messages_accepted = counter("messages_accepted_total", "Messages acknowledged, repeated ones included")
        self.messages_refused = counter("messages_refused_total", "Frames of clients answered by an error", "code")
        self.requests_refused = counter("requests_refused_total", "HTTP requests answered by an error", "code")
        self.heard = gauge(
            "listener_heard_timestamp_seconds",
            "When the listener last heard its own heartbeat, of the process where that is longest ago",
            "livemin",
        )
        # It has had no chance to hear anything yet.
        self.heard.set(time.time())
        self.listener_breaks = counter("listener_breaks_total", "Times that the listener lost Redis and came back")
        self.enqueue_failures = counter("enqueue_failures_total", "Tasks that the broker did not take at once")
        self.redis_errors = counter("redis_errors_total", "Requests and frames that failed as Redis was away")
        self.errors = counter("errors_total", "Requests and frames that failed by a bug")
        for reason in SOCKET_REFUSALS:
            self.sockets_refused.labels(reason)
        for code in ("rate_limited", "too_many_pending", "unavailable"):
            self.messages_refused.labels(code)

    def heard_now(self) -> None:
        """The listener hears."""
        self.heard.set(time.time())

    def exposition(self, deployment: Deployment) -> bytes:
        """Prometheus text: what this host's processes counted, and what is kept in Redis."""
        registry = CollectorRegistry()
        if os.environ.get(_SHARED_FOLDER):
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            own = generate_latest(registry)
        else:
            own = generate_latest(self._registry)
        shared = CollectorRegistry()
        shared.register(deployment)
        return own + generate_latest(shared)


#: Why a websocket is closed before it is served: no valid token, too many sockets, Redis away, the process ending.
SOCKET_REFUSALS = ("not_authenticated", "too_many", "too_many_in_session", "unavailable", "going_away")


@dataclass(frozen=True)
class _Numbers:
    """What Redis says of the whole deployment."""

    workers: liveness.WorkerAges
    queue_delay: float
    sessions: int
    counts: dict[str, float]


class Deployment(Collector):
    """The numbers of the whole deployment, read from Redis and the broker at each scrape, in bounded time."""

    def __init__(self, client: redis.Redis, celery: Celery, worker_timeout: float) -> None:
        self._celery = celery
        self._numbers = _Bounded(lambda: self._read(client, worker_timeout))
        self._queue = _Bounded(self._queue_length)

    def collect(self) -> Iterator[Any]:
        """The families of one scrape; those that cannot be read are left out, and that is told."""
        deadline = time.monotonic() + _PATIENCE
        self._numbers.begin()
        self._queue.begin()
        numbers: _Numbers | None = self._numbers.wait(deadline)
        length: int | None = self._queue.wait(deadline)
        yield _gauge("chatbot_web_redis_up", "Whether Redis answers this host", numbers is not None)
        yield _gauge("chatbot_web_broker_up", "Whether the broker answers this host", length is not None)
        if length is not None:
            yield _gauge("chatbot_queue_tasks", "Tasks in Celery's queue", length)
        if numbers is None:
            return
        yield _gauge("chatbot_workers", "Workers that ran a task lately", numbers.workers.alive)
        yield _gauge(
            "chatbot_workers_silent",
            "Workers that ran none for a while and did not end in order: killed, frozen or stuck",
            numbers.workers.silent,
        )
        yield _gauge(
            "chatbot_queue_delay_seconds",
            "Seconds that the longest-waiting message has waited for a worker",
            numbers.queue_delay,
        )
        yield _gauge("chatbot_ledger_sessions", "Sessions with unanswered messages", numbers.sessions)
        yield from counters.families(numbers.counts)

    @staticmethod
    def _read(client: redis.Redis, worker_timeout: float) -> _Numbers:
        return _Numbers(
            liveness.read_workers(client, worker_timeout),
            QueueDelay(client).read()[1],
            Ledger(client).size(),
            counters.sums(client),
        )

    def _queue_length(self) -> int:
        with self._celery.pool.acquire(block=True, timeout=_PATIENCE) as connection:
            # Declaring a queue is how one asks for its length; in Redis it makes none.
            queue = connection.default_channel.queue_declare(self._celery.conf.task_default_queue)
            return int(queue.message_count)


class _Bounded:
    """Asks in a thread, so that whoever waits for the answer need not wait for long; one question at a time."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._asking: _Asking | None = None

    def begin(self) -> None:
        with self._lock:
            if self._asking is None or not self._asking.is_alive():
                self._asking = _Asking(self._ask)
                self._asking.start()

    def wait(self, deadline: float) -> Any:
        """The answer, None when there is none by the deadline."""
        asking = self._asking
        if asking is None:
            return None
        asking.join(max(deadline - time.monotonic(), 0))
        return asking.answer


class _Asking(threading.Thread):
    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__(name="metrics", daemon=True)
        self._ask = ask
        self.answer: Any = None

    def run(self) -> None:
        try:
            self.answer = self._ask()
        except (StoreUnavailable, KombuError, redis.RedisError, OSError) as error:
            logger.warning("a number for /metrics could not be read: %s: %s", type(error).__name__, error)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
