"""Log lines that say which session, message and task they belong to; tokens never appear in one."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from chatbot.config import Settings

_context: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)

_TOKEN = re.compile(r"(token=|Bearer\s+|hf_|sk-)[\w.~+/=-]{8,}", re.IGNORECASE)


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Adds ids to every line logged inside."""
    token = _context.set({**(_context.get() or {}), **ids})
    try:
        yield
    finally:
        _context.reset(token)


def configure(settings: Settings) -> None:
    """Sends this process' log to standard error, once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSON() if settings.log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    # A line for each task received, sent and succeeded says less than the task's own, and the sweep's are endless.
    for name in ("celery.worker.strategy", "celery.worker.request", "celery.app.trace", "celery.beat"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))


def redact(text: str) -> str:
    """The text without what looks like a token."""
    return _TOKEN.sub(r"\1[redacted]", text)


class Redactor(logging.Filter):
    """For loggers with handlers of their own, such as gunicorn's, which repeats malformed requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{key}={value}" for key, value in (_context.get() or {}).items())
        line = redact(super().format(record))
        return f"{line} [{ids}]" if ids else line


class _JSON(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            **(_context.get() or {}),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)
