"""What a process writes besides its log: lines of the log too, so that with `LOG_FORMAT=json` every line is JSON.

Python, Celery and gevent write to standard output and standard error themselves: uncaught exceptions of the process,
of threads and of finalizers, warnings, notices at shutdown. Only a crash of the interpreter itself writes past this
module.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
from typing import Any, TextIO

logger = logging.getLogger("chatbot.logs")

#: Whether the process has yet to start, and whether traces are logged until then.
_state = {"starting": True, "traces": False}


class LinesOfLog(io.TextIOBase):
    """Stands in for `sys.stdout` or `sys.stderr`: each line that is written becomes a line of the log."""

    def __init__(self, underlying: TextIO, formatter: logging.Formatter, name: str, level: int) -> None:
        self.underlying = underlying
        self._formatter = formatter
        self._name = name
        self._level = level
        self._lock = threading.RLock()
        self._line = ""

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                self.underlying.write(_format(self._formatter, self._name, self._level, line) + "\n")
        self.underlying.flush()
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(ValueError):
            # At the end of the process the stream may be closed.
            self.underlying.flush()

    def end(self) -> None:
        """Writes what has no end of line yet."""
        if self._line:
            self.write("\n")

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.underlying.isatty()

    def fileno(self) -> int:
        return self.underlying.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.underlying.encoding


def replace_closed_streams() -> None:
    """Python has None in the place of a stream that was closed before it started, and much code writes to it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the process' life


def take_over(formatter: logging.Formatter, *, streams: bool, traces: bool) -> None:
    """Logs uncaught exceptions; with `streams`, turns all that is written to the standard streams into lines too.

    An exception before `mark_started` becomes one line, and is logged with its trace only if `traces`."""
    _state["traces"] = traces
    sys.excepthook = _log_exception
    if streams:
        sys.stdout = _stand_in(sys.stdout, formatter, "stdout", logging.INFO)
        sys.stderr = _stand_in(sys.stderr, formatter, "stderr", logging.WARNING)


def install_hooks() -> None:
    """Logs uncaught exceptions of threads and of finalizers."""
    threading.excepthook = _log_thread_exception
    sys.unraisablehook = _log_unraisable


def underlying(stream: Any) -> Any:
    """The stream to which finished lines of the log go."""
    return stream.underlying if isinstance(stream, LinesOfLog) else stream


def write_now(formatter: logging.Formatter, name: str, level: int, text: str) -> None:
    """Writes one line to standard error at once, past all locks: for signal handlers."""
    with contextlib.suppress(OSError):
        os.write(2, (_format(formatter, name, level, text) + "\n").encode("utf-8", "replace"))


def _stand_in(stream: TextIO, formatter: logging.Formatter, name: str, level: int) -> Any:
    return stream if isinstance(stream, LinesOfLog) else LinesOfLog(stream, formatter, name, level)


def _format(formatter: logging.Formatter, name: str, level: int, text: str) -> str:
    return formatter.format(logging.LogRecord(name, level, "", 0, "%s", (text,), None))


def mark_started() -> None:
    """From now on an exception that ends the process is an error of this program, and its trace is logged."""
    _state["starting"] = False


def _log_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    if _state["starting"] and not _state["traces"]:
        # Mostly an option that Celery, gunicorn or Flower cannot use.
        logger.critical(
            "this process cannot start, check its options and settings: %s: %s (LOG_LEVEL=DEBUG shows more)",
            kind.__name__,
            " ".join(str(error).split()),
        )
        return
    logger.critical("the process ends with an exception", exc_info=(kind, error, trace))


def _log_thread_exception(args: Any) -> None:
    """Python's own traceback on standard error would be neither formatted nor redacted."""
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        error = (args.exc_type, args.exc_value, args.exc_traceback)
        logger.error("the thread %s ended with an exception", name, exc_info=error)


def _log_unraisable(args: Any) -> None:
    """`args.object` is not shown: it may hold the text of a message."""
    error = (args.exc_type, args.exc_value, args.exc_traceback)
    logger.error("an exception in %s was ignored", type(args.object).__name__, exc_info=error)
