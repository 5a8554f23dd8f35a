"""Options with which a worker would do harm, or do nothing, are refused in one sentence, as Celery parses them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.bin.worker import worker

from chatbot.worker.early_options import refuse_early
from chatbot.worker.start_checks import check_options


def check_parsed(arguments: list[str]) -> None:
    """`check_options` within Celery's own command."""
    with worker.make_context("worker", arguments, obj=SimpleNamespace(app=Celery(set_as_current=False))):
        check_options()


@pytest.mark.parametrize(
    ("check", "arguments", "says"),
    [
        (check_parsed, ["-B"], "without -B"),
        (check_parsed, ["--autoscale=10,2"], "set WORKER_CONCURRENCY"),
        (check_parsed, ["--time-limit", "9"], "set MODEL_TIMEOUT"),
        (check_parsed, ["--max-tasks-per-child", "9"], "leave it out"),
        (check_parsed, ["-Q", "other"], "leave it out"),
        (check_parsed, ["-X", "celery"], "leave it out"),
        # Celery would delete the file.
        (check_parsed, ["--pidfile", __file__], "name a file of its own"),
        (check_parsed, ["-P", "prefork"], "leave -P out"),
        (check_parsed, ["-c", "10001"], "write a number from 1 to 10000"),
        (refuse_early, ["worker", "-P", "prefork"], "leave -P out"),
        # Celery takes it for none given.
        (refuse_early, ["worker", "-c", "0"], "write a number from 1 to"),
    ],
)
def test_an_option_that_would_do_harm_is_refused(
    monkeypatch: pytest.MonkeyPatch, check: Callable[[list[str]], None], arguments: list[str], says: str
) -> None:
    monkeypatch.setattr("sys.argv", ["celery", "worker", *arguments])
    with pytest.raises(SystemExit, match=says):
        check(arguments.copy())


def test_options_that_have_an_effect_are_taken() -> None:
    refuse_early(["worker", "-c", "3", "-P", "threads"])
    check_parsed(["-c", "3", "-Q", "celery,other", "-X", "third"])
