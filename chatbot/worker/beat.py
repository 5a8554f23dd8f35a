"""Celery's scheduler, as this project needs it."""

from __future__ import annotations

import logging
from typing import Any

from celery import beat

logger = logging.getLogger(__name__)


class Scheduler(beat.Scheduler):  # type: ignore[misc]
    """Keeps its one entry in memory: nothing on disk that two beats on one machine would fight over."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """A task that the broker does not take is one line of the log, not a traceback: the next one is due soon."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except beat.SchedulingError as error:
            logger.warning("the broker took no task of the schedule: %s", error)
