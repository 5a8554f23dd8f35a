"""With LOG_FORMAT=json every line on the standard streams is JSON, whatever writes it; in text form none is forged."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from chatbot.logs import output
from devtools.paths import ROOT

#: Runs each of the codes in a process of its own, a copy of one that has imported what all need, and writes the output
#: of each to a file. What follows the loop runs in the copies: they end as any program does.
START = """
import json, logging, os, sys, threading, warnings
from chatbot import logs
EVIL = "x\\n{\\"level\\": \\"FORGED\\"}\\r\\x1b[2J\\x08\\x85\\u2028\\u2029\\u202e\\u2066"
class Bad:
    def __del__(self):
        raise ValueError(EVIL)
folder = sys.argv[1]
for number, code in enumerate(json.load(sys.stdin)):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    out = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    break
else:
    os._exit(0)
settings = logs.settings_or_exit()
logs.configure(settings)
logs.take_over_output(settings)
exec(code)
"""
WAYS = {
    "an uncaught exception": "raise ValueError(EVIL)",
    "an exception of a thread": "t = threading.Thread(target=lambda: 1 / 0, name=EVIL); t.start(); t.join()",
    "an exception of a finalizer": "Bad()",
    "an exception at exit": "import atexit; atexit.register(lambda: 1 / 0)",
    "a warning": "warnings.warn(EVIL)",
    "an error of the log itself": "logging.getLogger().warning('%d', EVIL)",
    "a line": "logging.getLogger(EVIL).warning('%s', EVIL)",
    "a traceback": "try:\n    raise ValueError(EVIL)\nexcept ValueError:\n    logging.exception(EVIL)",
    "ids": "with logs.bound(session=EVIL):\n    logging.warning('x')",
    "a notice of a signal": "logs.write_now(settings, 'celery', EVIL)",
    "an uncaught exception of a greenlet": (
        "import gevent; import chatbot.web.gunicorn.worker; gevent.spawn(lambda: 1 / 0).join()"
    ),
}
#: Of these only in JSON: in text form nothing stands between them and the stream.
STREAMS = {
    "print": "print('one\\ntwo', end=''); print()",
    "a line without an end": "sys.stdout.write('no end'); logs.finish()",
    "the end with a message": "raise SystemExit('the end')",
}
SUMMARY = {"a line that is repeated": "for n in range(50): logging.warning('again %d', n)"}
UNSAFE = "\r\x1b\x08\x85\u2028\u2029\u202e\u2066"


def written(codes: Iterable[str], folder: Path, **env: str) -> list[str]:
    """What each of the codes writes."""
    ways = list(codes)
    subprocess.run(
        [sys.executable, "-c", START, str(folder)],
        cwd=ROOT,
        env={**os.environ, **env},
        input=json.dumps(ways),
        text=True,
        timeout=120,
        check=True,
    )
    return [(folder / str(number)).read_text("utf-8") for number in range(len(ways))]


@pytest.fixture(scope="module")
def in_json(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    codes = {**WAYS, **STREAMS, **SUMMARY}
    return dict(zip(codes, written(codes.values(), tmp_path_factory.mktemp("json"), LOG_FORMAT="json"), strict=True))


@pytest.fixture(scope="module")
def in_text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return dict(zip(WAYS, written(WAYS.values(), tmp_path_factory.mktemp("text"), LOG_FORMAT="text"), strict=True))


@pytest.mark.parametrize("way", [*WAYS, *STREAMS])
def test_every_line_is_json(in_json: dict[str, str], way: str) -> None:
    output = in_json[way]
    lines = [json.loads(line) for line in output.split("\n") if line]
    assert lines
    assert not set(output) & set(UNSAFE)
    assert all(line["level"] != "FORGED" for line in lines)


@pytest.mark.parametrize("way", WAYS)
def test_no_line_of_text_is_forged(in_text: dict[str, str], way: str) -> None:
    output = in_text[way]
    assert output
    assert not set(output) & set(UNSAFE)
    assert not any(line.startswith("{") for line in output.split("\n"))


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_invalid_setting_is_one_line(form: str, tmp_path: Path) -> None:
    (output,) = written([""], tmp_path, LOG_FORMAT=form, PORT="x\u202e")
    (line,) = output.splitlines()
    if form == "json":
        assert json.loads(line)["message"].startswith("Settings: PORT must be")
    else:
        assert line.startswith("Settings: PORT must be")
    assert not set(line) & set(UNSAFE)


def test_pending_summaries_are_written_at_the_end(in_json: dict[str, str]) -> None:
    (way,) = SUMMARY
    assert [json.loads(line).get("repeated") for line in in_json[way].splitlines()][-1] == 30


@pytest.mark.parametrize("traces", [False, True])
def test_an_exception_at_start_is_one_line_that_says_what_to_check(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, traces: bool
) -> None:
    def end(error: BaseException) -> list[logging.LogRecord]:
        caplog.clear()
        output._log_exception(type(error), error, None)
        return list(caplog.records)

    monkeypatch.setattr(output, "_state", {"starting": True, "traces": traces})
    (line,) = end(ValueError("invalid\nliteral"))
    assert bool(line.exc_info) is traces
    assert traces or line.getMessage().startswith(
        "this process cannot start, check its options and settings: ValueError: invalid literal"
    )
    assert not end(KeyboardInterrupt())
    output.mark_started()
    (line,) = end(ValueError("a mistake in this program"))
    assert line.exc_info
