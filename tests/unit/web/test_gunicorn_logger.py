"""gunicorn's own log lines: formatted like the application's, without tokens."""

from __future__ import annotations

import json
import logging

import pytest
from gunicorn.config import Config

from chatbot.web.gunicorn.logger import GunicornLogger


def test_gunicorns_lines_are_json_without_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    names = ("gunicorn.error", "gunicorn.access")
    before = {name: (log.handlers[:], log.filters[:]) for name in names for log in [logging.getLogger(name)]}
    try:
        logger = GunicornLogger(Config())
        logger.error("Invalid request: GET /chat?token=%s HTTP/9", "s3cret-token")
        line = json.loads(capsys.readouterr().err)
        assert line["message"] == "Invalid request: GET /chat?token=[redacted] HTTP/9"
        assert (line["level"], line["logger"]) == ("ERROR", "gunicorn.error")
    finally:
        for name, (handlers, filters) in before.items():
            logging.getLogger(name).handlers[:] = handlers
            logging.getLogger(name).filters[:] = filters
