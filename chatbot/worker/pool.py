"""Celery's pool of threads, whose tasks run in the thread of the model loop once there is one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool

from chatbot.worker.models.event_loop import ModelLoop


class LoopPool(TaskPool):  # type: ignore[misc]
    """A task in the loop begins without a thread that wakes up for it, and ends without one.

    Celery fetches no more tasks than there are slots. Should it do so all the same, the surplus waits here.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._changed = threading.Condition()
        self._running = 0
        self._waiting: deque[tuple[ModelLoop, Callable[[], Any]]] = deque()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Any:
        loop = self.app.task_loop()
        if loop is None:
            return super().on_apply(target, args, kwargs, callback, accept_callback, **options)
        task = partial(apply_target, target, args, kwargs, callback, accept_callback)
        with self._changed:
            if self._running >= self.limit:
                self._waiting.append((loop, task))
                return None
            self._running += 1
        loop.start(partial(self._run, task))
        return None

    def _run(self, task: Callable[[], Any]) -> None:
        """In the loop's thread."""
        try:
            task()
        finally:
            with self._changed:
                if self._waiting:
                    loop, following = self._waiting.popleft()
                    loop.start(partial(self._run, following))
                else:
                    self._running -= 1
                    self._changed.notify_all()

    def on_stop(self) -> None:
        """Returns once no task runs. Tasks that have not begun stay with the broker."""
        with self._changed:
            self._waiting.clear()
            while self._running:
                self._changed.wait()
        super().on_stop()
