"""The benchmarks, by name. Each has processes of its own, and measures what it compares in turns."""

from bench.suite import cost, sockets, stored, streams, users, way, workers
from bench.suite.common import BENCHMARKS, Benchmark, select

__all__ = ["BENCHMARKS", "Benchmark", "cost", "select", "sockets", "stored", "streams", "users", "way", "workers"]
