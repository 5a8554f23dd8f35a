"""Refuses, in one sentence, options of `celery worker` that would have no effect or do harm; applies the others."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.core import ParameterSource

NO_BEAT = "there is no Celery beat in this program, as workers send what is overdue: run celery -A celery_worker worker"
_QUEUE = "celery"
_MOST_THREADS = 10_000
_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
#: Celery's names of options, and what to do without them.
_REFUSED = {
    "autoscale": "--autoscale does not work with threads: set WORKER_CONCURRENCY, or use -c",
    "beat": f"-B: {NO_BEAT}, without -B",
    "time_limit": "--time-limit has no effect on threads: set MODEL_TIMEOUT",
    "soft_time_limit": "--soft-time-limit has no effect on threads: set MODEL_TIMEOUT",
    "max_tasks_per_child": "--max-tasks-per-child has no effect on threads: leave it out",
    "max_memory_per_child": "--max-memory-per-child has no effect on threads: leave it out",
    "pool_start_method": "--pool-start-method has no effect on threads: leave it out",
    "disable_prefetch": "--disable-prefetch does not work with this program's queue: leave it out",
    "prefetch_multiplier": "--prefetch-multiplier would make messages wait in one worker: leave it out",
}


def given(name: str) -> Any:
    """The value of an option that was given on the command line or in the environment, else None."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source(name) not in _GIVEN:
        return None
    return context.params[name]


def check_options() -> int | None:
    """The number of threads that `-c` asks for, None without it. Ends the process for an option that is refused."""
    for name, sentence in _REFUSED.items():
        if given(name) is not None:
            raise SystemExit(sentence)
    if given("pool") is not None and _chosen_pool(sys.argv) != "threads":
        raise SystemExit("-P: this program's workers are made for threads alone: leave -P out")
    queues, excluded = given("queues"), given("exclude_queues")
    if (queues is not None and _QUEUE not in queues) or _QUEUE in (excluded or ()):
        raise SystemExit(
            f"-Q and -X: this worker would answer no message, as all are in the queue {_QUEUE}: leave it out"
        )
    threads = given("concurrency")
    if threads is None:
        return None
    if not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS:
        raise SystemExit(f"-c must be a number of threads from 1 to {_MOST_THREADS}")
    return threads


def _chosen_pool(arguments: list[str]) -> str:
    """The pool as it was written: Celery replaces prefork, its default, with the pool of this program."""
    chosen = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument in ("-P", "--pool"):
            chosen = following
        elif argument.startswith("--pool="):
            chosen = argument.removeprefix("--pool=")
        elif argument.startswith("-P"):
            chosen = argument.removeprefix("-P")
    return chosen
