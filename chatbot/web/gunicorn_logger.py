"""gunicorn's logger, with the lines of the application's log."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from chatbot.config import load_settings
from chatbot.logs import Redactor, formatter


class GunicornLogger(Logger):  # type: ignore[misc]
    """The `logger_class` in gunicorn.conf.py. Tokens are redacted: gunicorn's lines repeat malformed requests."""

    def setup(self, cfg: Any) -> None:
        """Called at start, and on each reload of the configuration."""
        super().setup(cfg)
        lines = formatter(load_settings())
        for log in (self.error_log, self.access_log):
            log.filters[:] = [Redactor()]
            for handler in log.handlers:
                handler.setFormatter(lines)
