"""The formats of the log's lines, as text or JSON: no token stands in them, and each is one line."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

from chatbot.logs.ids import ids_of

#: Characters that begin a line, or change how a terminal shows one: controls, line separators, marks of direction.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_TOKEN = re.compile(r"(token=|Bearer\s+|hf_|sk-|resp_|(?:msg|rs|fc)_(?=[\w-]{59}))[\w.~+/=-]{8,}", re.IGNORECASE)


def redact(text: str) -> str:
    """The text with everything that looks like a token replaced."""
    return _TOKEN.sub(r"\1[redacted]", text)


def escape(text: str) -> str:
    """The text with controls as in JSON, so that nothing in it looks like a line of its own."""
    return _UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text)


class Redactor(logging.Filter):
    """Redacts lines of loggers with handlers of their own, such as gunicorn's, which repeats malformed requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


class TextFormat(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{key}={value}" for key, value in ids_of(record).items())
        record.message, record.asctime = record.getMessage(), self.formatTime(record)
        line = escape(redact(self.formatMessage(record)))
        lines = [f"{line} [{escape(ids)}]" if ids else line]
        if record.exc_info:
            # Marked, as the text of an exception may look like a line of the log.
            trace = redact(self.formatException(record.exc_info))
            lines += [f"    | {escape(part)}" for part in trace.split("\n")]
        return "\n".join(lines)


class JSONFormat(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            **ids_of(record),
        }
        if hasattr(record, "repeated"):
            line["repeated"] = record.repeated
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return escape(json.dumps(line, ensure_ascii=False))
