"""Repeated lines: the first of a kind are written, the rest become one line with their number."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator

import pytest

from chatbot.logs import bound, client_line
from chatbot.logs import repeated_lines as module
from chatbot.logs.ids import ids_of, present_ids
from chatbot.logs.repeated_lines import CLIENT_LIMIT, LIMIT, Summaries
from devtools.harness.deployment import eventually


class Lines(logging.Handler):
    """Collects what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    @property
    def repeated(self) -> list[int]:
        return [record.repeated for record in self.records if hasattr(record, "repeated")]


NAMES = ("chatbot.web.x", "chatbot.worker.x", "gunicorn.access")


def collect(summaries: Summaries) -> Lines:
    lines = Lines()
    lines.addFilter(summaries)
    for name in NAMES:
        log = logging.getLogger(name)
        log.handlers[:], log.propagate = [lines], False
        log.setLevel(logging.DEBUG)
    return lines


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    for name in NAMES:
        log = logging.getLogger(name)
        log.handlers[:], log.propagate = [], True
        log.setLevel(logging.NOTSET)


@pytest.fixture
def summaries() -> Summaries:
    """With an interval that does not end by itself."""
    return Summaries(lambda: {"session": "of the last"}, 600)


@pytest.fixture
def lines(summaries: Summaries) -> Lines:
    return collect(summaries)


web, worker, access = (logging.getLogger(name) for name in NAMES)


def test_a_flood_of_one_line_becomes_one_line_with_a_count(lines: Lines, summaries: Summaries) -> None:
    for number in range(4900):
        web.warning("Redis stalls: %d", number)
    summaries.flush()
    assert lines.texts[:LIMIT] == [f"Redis stalls: {number}" for number in range(LIMIT)]
    assert lines.texts[LIMIT:] == ["4880 more lines like this one within 600 s, the last: Redis stalls: 4899"]
    last = lines.records[-1]
    assert (last.levelname, last.name, last.repeated) == ("WARNING", "chatbot.web.x", 4880)  # type: ignore[attr-defined]
    assert last.ids == {"session": "of the last"}  # type: ignore[attr-defined]


def test_no_kind_of_line_hides_another(lines: Lines) -> None:
    for _ in range(500):
        web.warning("one: %s", "x")
    web.warning("another: %s", "x")
    worker.warning("one: %s", "x")
    assert lines.texts[LIMIT:] == ["another: x", "one: x"]


def test_kinds_that_differ_by_a_code_have_a_limit_each(lines: Lines, summaries: Summaries) -> None:
    for code in ("busy", "unavailable"):
        for _ in range(CLIENT_LIMIT + 7):
            web.info("refused: %s", code, extra=client_line(code))
    summaries.flush()
    assert lines.repeated == [7, 7]
    assert len(lines.records) == 2 * CLIENT_LIMIT + 2


def test_each_error_keeps_its_traceback_however_often_another_occurs(lines: Lines) -> None:
    def fail(index: int) -> None:
        try:
            if index < 0:
                raise ValueError("rare")
            raise KeyError("usual")
        except (ValueError, KeyError):
            worker.exception("it failed")

    for number in range(100):
        fail(number)
    fail(-1)
    assert len(lines.records) == LIMIT + 1
    info = lines.records[-1].exc_info
    assert info
    assert info[0] is ValueError


def test_lines_of_a_healthy_worker_and_of_debugging_all_pass(lines: Lines) -> None:
    for _ in range(300):
        worker.info("replied with %d characters", 5)
        web.debug("detail")
        access.info("GET /")
    assert len(lines.records) == 900


def warn_at_once(text: str, count: int) -> None:
    """Logs lines in one interval, however long that takes."""
    now = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        for _ in range(count):
            web.warning(text)


def test_a_summary_comes_though_no_line_follows() -> None:
    lines = collect(Summaries(dict, 0.05))
    warn_at_once("once", LIMIT + 3)
    eventually(lambda: lines.repeated == [3])


def test_the_next_interval_counts_anew() -> None:
    summaries = Summaries(dict, 0.02)
    lines = collect(summaries)
    warn_at_once("again", LIMIT + 1)
    eventually(lambda: lines.repeated)
    web.warning("again")
    assert lines.texts[-1] == "again"


def test_the_line_that_ends_an_interval_gives_no_ids_to_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines = collect(Summaries(present_ids, 600))
    with bound(session="a"):
        for _ in range(LIMIT + 1):
            web.warning("x")
    now += 601
    with bound(session="b"):
        web.warning("y")
    assert lines.repeated == [1]
    (summary,) = (record for record in lines.records if hasattr(record, "repeated"))
    assert ids_of(summary) == {"session": "a"}


def test_many_kinds_take_bounded_memory(lines: Lines, summaries: Summaries) -> None:
    for number in range(3000):
        web.warning(f"kind {number}")
    assert len(summaries._runs) <= module._MAX_KINDS + len(NAMES)
    assert len(lines.records) == module._MAX_KINDS + LIMIT


def test_arguments_that_do_not_fit_the_format_end_no_interval_with_an_error(lines: Lines, summaries: Summaries) -> None:
    for _ in range(LIMIT + 1):
        summaries.filter(logging.LogRecord("chatbot.web.x", logging.WARNING, "", 0, "%d", ("x",), None))
    summaries.flush()
    assert lines.records[-1].getMessage().endswith("the last: %d")


def test_a_fork_begins_without_the_lock_and_the_counts_of_its_parent(summaries: Summaries, lines: Lines) -> None:
    for _ in range(LIMIT + 1):
        web.warning("of the parent")
    with summaries._lock:
        child = os.fork()
        if not child:
            summaries.flush()
            os._exit(0 if summaries._lock.acquire(blocking=False) and not lines.repeated else 1)
    assert os.waitpid(child, 0)[1] == 0
