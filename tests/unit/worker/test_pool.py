"""The pool that runs tasks in the model loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from chatbot.worker.models.event_loop import ModelLoop, outside
from chatbot.worker.pool import LoopPool
from devtools.harness.deployment import eventually


class Tasks:
    """Applies tasks to a pool with two slots; each waits until it is let pass, and notes its thread's name."""

    def __init__(self, loop: ModelLoop | None) -> None:
        self.pool = LoopPool(limit=2, app=SimpleNamespace(task_loop=lambda: loop))
        self.begun: list[str] = []
        self.done: list[Any] = []
        self._pass = threading.Semaphore(0)

    def apply(self, target: Callable[[], Any] | None = None) -> None:
        self.pool.on_apply(target or self._wait, (), {}, self.done.append, lambda *_: None)

    def let_pass(self, count: int) -> None:
        self._pass.release(count)

    def _wait(self) -> str:
        self.begun.append(threading.current_thread().name)
        outside(lambda: self._pass.acquire(timeout=10))
        return "passed"


def test_tasks_run_in_the_loop_no_more_at_a_time_than_there_are_slots() -> None:
    tasks = Tasks(ModelLoop(4))
    for _ in range(3):
        tasks.apply()
    eventually(lambda: len(tasks.begun) == 2)
    tasks.let_pass(3)
    eventually(lambda: tasks.done == ["passed"] * 3)
    assert set(tasks.begun) == {"model-streams"}


def test_a_task_that_fails_frees_its_slot(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(ModelLoop(4))
    for _ in range(3):
        tasks.apply(lambda: 1 // 0)
    tasks.let_pass(1)
    tasks.apply()
    eventually(lambda: tasks.done == ["passed"])
    assert "division" in caplog.text


def test_stopping_waits_for_the_tasks_that_run_and_begins_none() -> None:
    tasks = Tasks(ModelLoop(4))
    for _ in range(3):
        tasks.apply()
    eventually(lambda: len(tasks.begun) == 2)
    stopping = threading.Thread(target=tasks.pool.on_stop)
    stopping.start()
    eventually(lambda: not tasks.pool._waiting)
    assert stopping.is_alive()
    tasks.let_pass(2)
    stopping.join(10)
    assert (stopping.is_alive(), tasks.done) == (False, ["passed"] * 2)


def test_without_a_loop_each_task_has_a_thread() -> None:
    tasks = Tasks(None)
    tasks.let_pass(1)
    tasks.apply()
    eventually(lambda: tasks.done == ["passed"])
    assert tasks.begun[0].startswith("ThreadPoolExecutor")
