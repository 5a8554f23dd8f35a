"""gunicorn's logger, with the lines of the application's log."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger

from chatbot.config import load_settings
from chatbot.logs import Redactor, formatter, summaries
from chatbot.logs.output import underlying


class GunicornLogger(Logger):  # type: ignore[misc]
    """The `logger_class` in gunicorn.conf.py. Tokens are redacted: gunicorn's lines repeat malformed requests."""

    def setup(self, cfg: Any) -> None:
        """Called at start, and on each reload of the configuration."""
        super().setup(cfg)
        lines = formatter(load_settings())
        for log in (self.error_log, self.access_log):
            # In this order: a redacted line has lost its format string, by which lines are counted.
            log.filters[:] = [summaries, Redactor()]
            for handler in log.handlers:
                if isinstance(handler, logging.StreamHandler):
                    handler.setStream(underlying(handler.stream))
                handler.setFormatter(lines)
