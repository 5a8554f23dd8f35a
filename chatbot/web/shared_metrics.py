"""The metrics of the whole deployment behind `/metrics`, read from Redis and the broker at each scrape."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import redis
from celery import Celery
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from chatbot.api_keys.usage import KeyUsage, read_by_name
from chatbot.errors import StoreUnavailable
from chatbot.queue.celery_app import BROKER_ERRORS, QUEUE
from chatbot.sessions.ledger import Ledger
from chatbot.sessions.queue_delay import Line, expected_wait, read_lines
from chatbot.store.partitions import PartitionGroup, Partitions
from chatbot.telemetry import counters, liveness
from chatbot.telemetry.redis_memory import RedisMemory, read_memory

logger = logging.getLogger(__name__)

#: Seconds to wait for Redis and the broker in one scrape: less than a scraper waits.
_READ_TIMEOUT = 4.0


@dataclass(frozen=True)
class _OfGroup:
    """Read from one Redis: what adds up over all."""

    lines: list[Line]
    sessions: int
    memory: RedisMemory


@dataclass(frozen=True)
class _Numbers:
    """Read from the Redis of what belongs to no session, for the whole deployment."""

    workers: liveness.WorkerAges
    #: Replies in progress, and slots.
    load: tuple[int, int]
    counts: dict[str, float]
    worker_memory: dict[str, int]
    key_usage: dict[str, KeyUsage]


class SharedMetrics(Collector):
    """The numbers of the whole deployment, read from Redis and the broker at each scrape, in bounded time."""

    def __init__(self, partitions: Partitions, celery: Celery, worker_timeout: float) -> None:
        self._celery = celery
        self._numbers = _BoundedCall(lambda: self._read(partitions.home.client, worker_timeout))
        # One that does not answer holds no other up.
        self._groups = [_BoundedCall(partial(self._read_group, partitions, group)) for group in partitions.groups]
        self._queue = _BoundedCall(self._queue_length)

    def collect(self) -> Iterator[Any]:
        """The families of one scrape, without those that could not be read; two gauges report what could be read."""
        deadline = time.monotonic() + _READ_TIMEOUT
        for call in (self._numbers, self._queue, *self._groups):
            call.begin()
        numbers: _Numbers | None = self._numbers.wait(deadline)
        length: int | None = self._queue.wait(deadline)
        groups: list[_OfGroup] = [found for call in self._groups if (found := call.wait(deadline))]
        up = numbers is not None and len(groups) == len(self._groups)
        yield _gauge("chatbot_web_redis_up", "Whether Redis, of several each, answers this host", up)
        yield _gauge("chatbot_web_broker_up", "Whether the broker answers this host", length is not None)
        if length is not None:
            yield _gauge("chatbot_queue_tasks", "Tasks in Celery's queue", length)
        if groups:
            yield from _sums(groups)
        if numbers is None:
            return
        yield _gauge("chatbot_workers", "Workers that ran a task lately", numbers.workers.alive)
        yield _gauge(
            "chatbot_workers_silent",
            "Workers that ran none for a while and did not end in order: killed, frozen or stuck",
            numbers.workers.silent,
        )
        yield _gauge("chatbot_replies_in_progress", "Replies that workers generate", numbers.load[0])
        yield _gauge("chatbot_worker_slots", "Replies that all workers can generate at a time", numbers.load[1])
        memory = GaugeMetricFamily("chatbot_worker_memory_bytes", "Resident memory of each worker", labels=("worker",))
        for worker, used in numbers.worker_memory.items():
            memory.add_metric((worker,), used)
        yield memory
        yield from counters.families(numbers.counts)
        yield from _key_families(numbers.key_usage)

    @staticmethod
    def _read(client: redis.Redis, worker_timeout: float) -> _Numbers:
        workers = liveness.read_workers(client, worker_timeout)
        return _Numbers(
            workers,
            liveness.read_load(client, workers),
            counters.sums(client),
            liveness.read_memory(client, workers),
            read_by_name(client),
        )

    @staticmethod
    def _read_group(partitions: Partitions, group: PartitionGroup) -> _OfGroup:
        lines = read_lines(partitions.in_group(group))
        return _OfGroup(lines, Ledger(partitions).size(group), read_memory(group.client))

    def _queue_length(self) -> int:
        with self._celery.pool.acquire(block=True, timeout=_READ_TIMEOUT) as connection:
            # Declaring a queue returns its length; in Redis it creates nothing.
            queue = self._celery.amqp.queues[QUEUE](connection.default_channel)
            return int(queue.queue_declare().message_count)


class _BoundedCall:
    """Calls a function in a thread, so that a caller can stop waiting for it; one call at a time."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._call: _Call | None = None

    def begin(self) -> None:
        with self._lock:
            if self._call is None or not self._call.is_alive():
                self._call = _Call(self._function)
                self._call.start()

    def wait(self, deadline: float) -> Any:
        """The result, None without one at the deadline, a monotonic time."""
        call = self._call
        if call is None:
            return None
        call.join(max(deadline - time.monotonic(), 0))
        return call.result


class _Call(threading.Thread):
    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(name="metrics", daemon=True)
        self._function = function
        self.result: Any = None

    def run(self) -> None:
        try:
            self.result = self._function()
        except (StoreUnavailable, *BROKER_ERRORS) as error:
            logger.warning("a number for /metrics could not be read: %s: %s", type(error).__name__, error)


def _sums(groups: list[_OfGroup]) -> Iterator[GaugeMetricFamily]:
    lines = [line for group in groups for line in group.lines]
    yield _gauge(
        "chatbot_queue_delay_seconds",
        "Seconds that the longest-waiting message has waited for a worker",
        max(line.delay for line in lines),
    )
    yield _gauge(
        "chatbot_expected_wait_seconds", "Seconds that a new message must expect to wait", expected_wait(lines)
    )
    yield _gauge(
        "chatbot_ledger_sessions", "Sessions with unanswered messages", sum(group.sessions for group in groups)
    )
    # Sums would hide that one of several is full.
    memory = max(
        (group.memory for group in groups), key=lambda memory: (memory.used / (memory.limit or inf), memory.used)
    )
    yield _gauge("chatbot_redis_memory_bytes", "Memory that Redis uses, of several the fullest", memory.used)
    yield _gauge("chatbot_redis_memory_limit_bytes", "Its maxmemory, 0 for no limit", memory.limit)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _key_families(usage: Mapping[str, KeyUsage]) -> Iterator[CounterMetricFamily]:
    """What the API keys have used, by the names that an operator gave them."""
    requests = CounterMetricFamily(
        "chatbot_api_key_requests_total", "Settled requests of an API key", labels=("key", "outcome")
    )
    tokens = CounterMetricFamily("chatbot_api_key_tokens_total", "Tokens of an API key", labels=("key", "kind"))
    for name, used in usage.items():
        requests.add_metric((name, "replied"), used.requests)
        requests.add_metric((name, "failed"), used.failed)
        tokens.add_metric((name, "prompt"), used.prompt_tokens)
        tokens.add_metric((name, "completion"), used.completion_tokens)
    yield requests
    yield tokens
