"""The metrics of workers. Redis holds their sums over all workers; `/metrics` of web shows them.

A worker has no port to scrape: several share a host, and they come and go. Each counts in memory and adds its counts to
one hash every few seconds; a killed worker loses its last seconds. Label values not listed below count as `other`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import redis
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from chatbot.errors import StoreUnavailable
from chatbot.store.errors import store_errors
from chatbot.store.keys import METRICS

#: The values of `error_type` in the text-generation protocol that are kinds of their own.
ServerErrorKind = Literal["generation", "incomplete_generation", "overloaded", "healthcheck"]
#: What may go wrong with a model call, as logs and metrics name it.
ModelErrorKind = Literal[
    ServerErrorKind,
    "address",
    "bad_answer",
    "busy",
    "callable",
    "connection",
    "content_filter",
    "credits",
    "cut_off",
    "internal",
    "loading",
    "no_such_model",
    "not_found",
    "rate_limited",
    "redirect",
    "refused",
    "server_error",
    "timeout",
    "tls",
    "too_long",
    "unauthorized",
]

#: The value of a label that stands for all values not listed.
OTHER = "other"

#: Seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


@dataclass(frozen=True)
class Metric:
    """A counter, with at most one label, or a histogram of seconds. A counter's name ends in `_total`."""

    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ()
    histogram: bool = False


REPLIES = Metric(
    "chatbot_replies_total",
    "Messages settled by workers: how the reply ended, or that it failed for good, by the client's fault if refused",
    "outcome",
    ("stop", "length", "content_filter", "stopped", "interrupted", "failed", "refused"),
)
FIRST_TOKEN = Metric(
    "chatbot_reply_first_token_seconds",
    "From the start of the model call to the first text of its reply",
    histogram=True,
)
REPLY_TIME = Metric("chatbot_reply_seconds", "From the start of the model call to the end of its reply", histogram=True)
PIECES = Metric("chatbot_reply_pieces_total", "Chunks of text that models sent; from most servers each is a token")
TOKENS = Metric(
    "chatbot_model_tokens_total",
    "Tokens of replies as model servers report them: of prompts, those of them that were cached, and generated ones",
    "kind",
    ("prompt", "cached", "completion"),
)
RETRIES = Metric(
    "chatbot_retries_total",
    "Retries scheduled because the model was loading or failed",
    "reason",
    ("loading", "error"),
)
MODEL_ERRORS = Metric(
    "chatbot_model_errors_total",
    "Model calls that gave no reply, unless the client is at fault",
    "kind",
    (*get_args(ModelErrorKind), OTHER),
)
TAKEOVERS = Metric("chatbot_takeovers_total", "Replies that a frozen or starved worker lost to another")
SWEEPS = Metric("chatbot_sweeps_total", "Sweeps of the ledger, one a second of each Redis")
REPORT_FAILURES = Metric(
    "chatbot_report_failures_total", "Reports of replies in progress that Redis did not take: their text stands still"
)
WORKER_REDIS_ERRORS = Metric(
    "chatbot_worker_redis_errors_total", "Steps of workers that failed because Redis was unavailable"
)

COUNTED = (
    REPLIES,
    FIRST_TOKEN,
    REPLY_TIME,
    PIECES,
    TOKENS,
    RETRIES,
    MODEL_ERRORS,
    TAKEOVERS,
    SWEEPS,
    WORKER_REDIS_ERRORS,
    REPORT_FAILURES,
)

_SUM = "sum"
_BOUNDS = (*(f"{bound:g}" for bound in BUCKETS), "+Inf")
_BUCKET_FIELDS = {m: tuple(f"{m.name}:{b}" for b in _BOUNDS) for m in COUNTED if m.histogram}


class Counts:
    """The counts of one process since the last flush. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, float] = {}

    def add(self, metric: Metric, value: str = "", amount: float = 1) -> None:
        """Adds to a counter; `value` is that of its label."""
        if metric.label and value not in metric.values:
            value = OTHER
        self._add(((f"{metric.name}:{value}" if metric.label else metric.name, amount),))

    def observe(self, metric: Metric, seconds: float) -> None:
        """Adds one observation to a histogram."""
        bucket = _BUCKET_FIELDS[metric][bisect_left(BUCKETS, seconds)]
        self._add(((bucket, 1), (f"{metric.name}:{_SUM}", seconds)))

    def flush(self, client: redis.Redis) -> None:
        """Adds the counts to the sums, in one transaction. Raises `StoreUnavailable`: then the counts are kept.

        When the connection breaks in between, the outcome is unknown and the counts may be added twice.
        """
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            with client.pipeline(transaction=True) as pipeline:
                for field, amount in counts.items():
                    pipeline.hincrbyfloat(METRICS, field, amount)
                pipeline.execute()
        except redis.RedisError as error:
            self._add(tuple(counts.items()))
            raise StoreUnavailable(f"metrics: {type(error).__name__}: {error}") from error

    def _add(self, amounts: tuple[tuple[str, float], ...]) -> None:
        with self._lock:
            for field, amount in amounts:
                self._counts[field] = self._counts.get(field, 0) + amount


def sums(client: redis.Redis) -> dict[str, float]:
    """The sums over all workers, for `families`. Raises `StoreUnavailable`."""
    with store_errors("metrics"):
        return {str(field): float(value) for field, value in client.hgetall(METRICS).items()}


def families(sums: Mapping[str, float]) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
    """The sums as Prometheus metrics; a missing one is 0, so that its first count shows as an increase."""
    for metric in COUNTED:
        if metric.histogram:
            so_far, buckets = 0.0, []
            for bound, field in zip(_BOUNDS, _BUCKET_FIELDS[metric], strict=True):
                so_far += sums.get(field, 0)
                buckets.append((bound, so_far))
            yield HistogramMetricFamily(
                metric.name, metric.help, buckets=buckets, sum_value=sums.get(f"{metric.name}:{_SUM}", 0)
            )
        elif metric.label:
            family = CounterMetricFamily(metric.name, metric.help, labels=(metric.label,))
            for value in metric.values:
                family.add_metric((value,), sums.get(f"{metric.name}:{value}", 0))
            yield family
        else:
            yield CounterMetricFamily(metric.name, metric.help, value=sums.get(metric.name, 0))
