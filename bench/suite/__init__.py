"""The benchmarks, by name. Each runs its own processes, and alternates between the things that it compares."""

from bench.suite import cost, generator, partitions, reply_path, sockets, stored, token_streams, traces, users, workers
from bench.suite.common import BENCHMARKS, Benchmark, select

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "cost",
    "generator",
    "partitions",
    "reply_path",
    "select",
    "sockets",
    "stored",
    "token_streams",
    "traces",
    "users",
    "workers",
]
