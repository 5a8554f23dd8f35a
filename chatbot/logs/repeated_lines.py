"""Summaries of repeated lines: the first lines of a kind pass, the rest of an interval becomes one line with a count.

So neither a storm of clients nor an outage fills the disk, and no kind of line hides another.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds over which lines of one kind are counted.
INTERVAL = 10.0
#: Lines of one kind that pass in an interval: warnings, errors, and what clients cause.
LIMIT = 20
#: The same for a line of each socket, session or refusal: a usual crowd is logged one by one.
CLIENT_LIMIT = 100
#: Kinds that are counted apart in an interval; what exceeds them counts by logger alone.
_MAX_KINDS = 1000
#: Loggers whose lines below WARNING clients can cause. Other such lines are those of a healthy process: all pass.
_CAUSED_BY_CLIENTS = ("chatbot.web.", "chatbot.queue.", "chatbot.worker.celery_extensions")


def client_line(kind: str = "") -> dict[str, object]:
    """The `extra` of a line for each socket, session or refusal; `kind` distinguishes it besides the format string."""
    return {"line_limit": CLIENT_LIMIT, "line_kind": kind}


@dataclass
class _Run:
    """The lines of one kind in the current interval."""

    passed: int = 0
    repeated: int = 0
    last: logging.LogRecord | None = None


class Summaries(logging.Filter):
    """Passes the first lines of each kind in an interval, and logs a summary of the others at its end.

    A kind is a logger and a format string; for a traceback also the exception's type and the line that raised it. A
    summary comes at the end of the interval, whether more lines follow or not, or at the process' end (`flush`).
    """

    def __init__(self, ids: Callable[[], dict[str, str]], interval: float = INTERVAL) -> None:
        """`ids` returns those that the current line belongs to."""
        super().__init__()
        self._ids = ids
        self._interval = interval
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # Re-entrant: a signal handler or a finalizer may log inside. It is held for a few dictionary operations.
        self._lock = threading.RLock()
        self._runs: dict[tuple[object, ...], _Run] = {}
        self._ends = 0.0
        self._timer: threading.Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        limit = _limit(record)
        if limit is None:
            return True
        kind = _kind(record)
        with self._lock:
            now = time.monotonic()
            finished = self._take() if now >= self._ends else []
            if not self._runs:
                self._ends = now + self._interval
            if kind not in self._runs and len(self._runs) >= _MAX_KINDS:
                kind = (record.name,)
            run = self._runs.setdefault(kind, _Run())
            passes = run.passed < limit
            if passes:
                run.passed += 1
            else:
                run.repeated += 1
                run.last = record
                record.ids = self._ids()
                self._start_timer(self._ends - now)
        self._log(finished)
        return passes

    def flush(self) -> None:
        """Logs the summaries that are due at the end of the interval now."""
        with self._lock:
            finished = self._take()
        self._log(finished)

    def _start_timer(self, delay: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(delay, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _take(self) -> list[_Run]:
        """The runs with repeated lines; begins a new interval. The lock is held."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        runs, self._runs = self._runs, {}
        return [run for run in runs.values() if run.repeated]

    def _log(self, runs: list[_Run]) -> None:
        for run in runs:
            if run.last is not None:
                summary = _summary(run.last, run.repeated, self._interval)
                # The ids of the line that happens to end the interval do not belong to the summary.
                contextvars.Context().run(logging.getLogger(summary.name).handle, summary)


def _limit(record: logging.LogRecord) -> int | None:
    """How many lines like this one pass in an interval; None for all."""
    if hasattr(record, "repeated") or record.levelno < logging.INFO or record.name == "gunicorn.access":
        return None
    given = getattr(record, "line_limit", None)
    if given is not None:
        return int(given)
    if record.levelno >= logging.WARNING or record.name.startswith(_CAUSED_BY_CLIENTS):
        return LIMIT
    return None


def _kind(record: logging.LogRecord) -> tuple[object, ...]:
    kind = (record.name, str(record.msg)[:200], getattr(record, "line_kind", ""))
    error, _, trace = record.exc_info or (None, None, None)
    if trace is None:
        return kind
    while trace.tb_next is not None:
        trace = trace.tb_next
    return (*kind, error, trace.tb_frame.f_code, trace.tb_lineno)


def _summary(last: logging.LogRecord, repeated: int, interval: float) -> logging.LogRecord:
    text = f"{repeated} more lines like this one within {interval:g} s, the last: {_message(last)}"
    summary = logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, "%s", (text,), None)
    summary.repeated = repeated
    summary.ids = getattr(last, "ids", {})
    return summary


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # The format does not fit the arguments: `logging` reports that for the lines that pass.
        return str(record.msg)
