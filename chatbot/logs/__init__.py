"""Logging to standard error, as text or JSON, with session, message and task ids and without tokens."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Any

from chatbot.config import Settings, misspelled, read_settings
from chatbot.errors import ConfigurationError
from chatbot.logs import output
from chatbot.logs.repeated_lines import Summaries, client_line
from chatbot.tracing import current

__all__ = [
    "Redactor",
    "bound",
    "client_line",
    "configure",
    "escape",
    "finish",
    "formatter",
    "is_json",
    "mark_started",
    "redact",
    "settings_or_exit",
    "summaries",
    "take_over_output",
    "write_now",
]

logger = logging.getLogger(__name__)

_context: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)

#: The argument of `generate_reply`.
_SESSION = re.compile(r"[0-9a-f]{32}\Z")
#: Characters that begin a line, or change how a terminal shows one: controls, line separators, marks of direction.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_TOKEN = re.compile(r"(token=|Bearer\s+|hf_|sk-|resp_|(?:msg|rs|fc)_(?=[\w-]{59}))[\w.~+/=-]{8,}", re.IGNORECASE)


@contextmanager
def bound(**ids: str | None) -> Iterator[None]:
    """Adds ids to every line logged inside the context; None adds nothing."""
    token = _context.set({**(_context.get() or {}), **{name: value for name, value in ids.items() if value}})
    try:
        yield
    finally:
        _context.reset(token)


def configure(settings: Settings, file: str | None = None) -> None:
    """Sends this process' log to standard error or `file`, uncaught exceptions of threads included.

    Warns of each environment variable that looks like a misspelled setting.
    """
    # Watched: logrotate may move the file.
    handler = _FileHandler(file, encoding="utf-8") if file else _Handler(output.underlying(sys.stderr))
    handler.setFormatter(formatter(settings))
    handler.addFilter(summaries)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log.level)
    # No line names its thread or process: looking them up would be wasted.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)
    output.install_hooks()
    # urllib3 warns with whole URLs, and with what a server sent.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # Celery's lines for each task received, sent and succeeded add nothing to the task's own.
    for name in ("celery.worker.strategy", "celery.worker.request", "celery.app.trace"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(settings.log.level)))
    for name, nearest in misspelled(os.environ):
        logger.warning("%s is not a setting: did you mean %s?", name, nearest)


def settings_or_exit() -> Settings:
    """The settings of a process that logs. An invalid one ends the process with one line of the log that names it."""
    output.replace_closed_streams()
    try:
        return read_settings()
    except ConfigurationError as error:
        text = f"Settings: {error}"
        form = os.environ.get("LOG_FORMAT", "").strip().lower() or "auto"
        if form == "json" or (form == "auto" and not sys.stderr.isatty()):
            output.write_now(_JSON(), "chatbot.config", logging.CRITICAL, text)
            raise SystemExit(1) from None
        raise SystemExit(escape(text)) from None


def take_over_output(settings: Settings, *, streams: bool = True) -> None:
    """Logs what ends this process; has what it writes to its standard `streams` become lines of the log, if these are
    JSON."""
    traces = settings.log.level == "DEBUG"
    output.take_over(formatter(settings), streams=streams and is_json(settings), traces=traces)


def mark_started() -> None:
    """Until this is called, an exception that ends the process becomes one line of the log without a trace."""
    output.mark_started()


def write_now(settings: Settings, name: str, text: str) -> None:
    """Writes a line at once, past all locks: for signal handlers. `name` is the logger's."""
    output.write_now(formatter(settings), name, logging.INFO, text)


def finish() -> None:
    """Writes what the log still holds back. Called at the end of a process that skips the interpreter's shutdown."""
    summaries.flush()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, output.LinesOfLog):
            stream.end()
    logging.shutdown()


def is_json(settings: Settings) -> bool:
    """Whether lines are JSON: as `LOG_FORMAT` says, by default outside of a terminal."""
    return settings.log.format == "json" or (settings.log.format == "auto" and not sys.stderr.isatty())


def formatter(settings: Settings) -> logging.Formatter:
    """The formatter for this process' handlers, gunicorn's included."""
    return _JSON() if is_json(settings) else _Text()


def redact(text: str) -> str:
    """The text with everything that looks like a token replaced."""
    return _TOKEN.sub(r"\1[redacted]", text)


def escape(text: str) -> str:
    """The text with controls as in JSON, so that nothing in it looks like a line of its own."""
    return _UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text)


def _ids() -> dict[str, str]:
    """The ids that a line belongs to; Celery's own lines about a task get them too."""
    ids = dict(_context.get() or {})
    if (span := current()) is not None:
        ids["trace_id"], ids["span_id"] = span.trace_id, span.span_id
    # Not imported: gunicorn.conf.py uses this module before gevent has patched the modules that Celery imports.
    celery = sys.modules.get("celery._state")
    task = celery.get_current_task() if celery is not None else None
    request = task.request if task is not None else None
    if request is not None and request.id:
        ids["task_id"] = request.id
        if request.args and _SESSION.match(str(request.args[0])):
            ids.setdefault("session", request.args[0])
    return ids


def _ids_of(record: logging.LogRecord) -> dict[str, str]:
    """The ids that a line was logged with, or those of the line that is being logged."""
    found: dict[str, str] | None = getattr(record, "ids", None)
    return _ids() if found is None else found


class _Handler(logging.StreamHandler[Any]):
    def close(self) -> None:
        """Called at the end of the process."""
        summaries.flush()
        super().close()


class _FileHandler(WatchedFileHandler):
    def close(self) -> None:
        """Called at the end of the process."""
        summaries.flush()
        super().close()


#: Of this process, for all its loggers.
summaries = Summaries(_ids)


class Redactor(logging.Filter):
    """Redacts lines of loggers with handlers of their own, such as gunicorn's, which repeats malformed requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{key}={value}" for key, value in _ids_of(record).items())
        record.message, record.asctime = record.getMessage(), self.formatTime(record)
        line = escape(redact(self.formatMessage(record)))
        lines = [f"{line} [{escape(ids)}]" if ids else line]
        if record.exc_info:
            # Marked, as the text of an exception may look like a line of the log.
            trace = redact(self.formatException(record.exc_info))
            lines += [f"    | {escape(part)}" for part in trace.split("\n")]
        return "\n".join(lines)


class _JSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_ids_of(record),
        }
        if hasattr(record, "repeated"):
            line["repeated"] = record.repeated
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return escape(json.dumps(line, ensure_ascii=False))
