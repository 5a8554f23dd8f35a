"""Lines of the log: what a user, a model or a header says cannot look like a line of its own."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from chatbot.config import Settings
from chatbot.config.settings import LogSettings
from chatbot.logs import bound, formatter

FORGED = "end\n2026-01-01 ERROR root: forged\r\x1b[2Jx\x85y\u2028z\u202eevil\u2066\x00\udc80"
UNSAFE = "\n\r\x1b\x85\u2028\u202e\u2066\x00\udc80"


def formatted(form: str, message: str, *, error: Exception | None = None) -> str:
    info = None
    if error is not None:
        try:
            raise error
        except Exception:  # noqa: BLE001 - any error of the test
            info = sys.exc_info()
    record = logging.LogRecord("a.logger", logging.WARNING, "file.py", 1, "said: %s", (message,), info)
    with bound(message_id=message):
        return formatter(Settings(log=LogSettings(format=form))).format(record)


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_message_forges_a_line(form: str) -> None:
    line = formatted(form, FORGED)
    assert not set(line) & set(UNSAFE)
    assert "\\n2026-01-01" in line


def test_json_lines_hold_the_message_unchanged() -> None:
    assert json.loads(formatted("json", FORGED + "é"))["message"] == f"said: {FORGED}é"


def test_the_lines_of_a_traceback_are_marked_as_such() -> None:
    first, *rest = formatted("text", "x", error=ValueError(FORGED)).split("\n")
    assert first.endswith("said: x [message_id=x]")
    assert rest
    assert all(line.startswith("    | ") for line in rest)
    assert not set("".join(rest)) & set(UNSAFE)
