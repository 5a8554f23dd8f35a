"""The ids of the session, message, task and trace to which a line of the log belongs."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chatbot.tracing import current

_context: ContextVar[dict[str, str] | None] = ContextVar("log_context", default=None)

#: The argument of `generate_reply`.
_SESSION = re.compile(r"[0-9a-f]{32}\Z")


@contextmanager
def bound(**ids: str | None) -> Iterator[None]:
    """Adds ids to every line logged inside the context; None adds nothing."""
    token = _context.set({**(_context.get() or {}), **{name: value for name, value in ids.items() if value}})
    try:
        yield
    finally:
        _context.reset(token)


def present_ids() -> dict[str, str]:
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


def ids_of(record: logging.LogRecord) -> dict[str, str]:
    """The ids that a line was logged with, or those of the line that is being logged."""
    found: dict[str, str] | None = getattr(record, "ids", None)
    return present_ids() if found is None else found
