"""Logging to standard error, as text or JSON, with session, message and task ids and without tokens.

The lines are made in `formats`; `output` has what else a process writes become such lines.
"""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import WatchedFileHandler
from typing import Any

from chatbot.config import Settings, misspelled, read_settings
from chatbot.errors import ConfigurationError
from chatbot.logs import output
from chatbot.logs.formats import JSONFormat, Redactor, TextFormat, escape, redact
from chatbot.logs.ids import bound, present_ids
from chatbot.logs.repeated_lines import Summaries, client_line

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


def configure(settings: Settings, file: str | None = None) -> None:
    """Sends this process' log to standard error or `file`, uncaught exceptions of threads included.

    Warns of each variable that is no setting, though it looks like one or stands in `.env`.
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
        if nearest:
            logger.warning("%s is not a setting: did you mean %s?", name, nearest)
        else:
            logger.warning("%s in .env is not a setting: docs/settings.md lists them", name)


def settings_or_exit() -> Settings:
    """The settings of a process that logs. An invalid one ends the process with one line of the log that names it."""
    output.replace_closed_streams()
    try:
        return read_settings()
    except ConfigurationError as error:
        text = f"Settings: {error}"
        form = os.environ.get("LOG_FORMAT", "").strip().lower() or "auto"
        if form == "json" or (form == "auto" and not sys.stderr.isatty()):
            output.write_now(JSONFormat(), "chatbot.config", logging.CRITICAL, text)
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
    return JSONFormat() if is_json(settings) else TextFormat()


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
summaries = Summaries(present_ids)
