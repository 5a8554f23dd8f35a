"""Settings of workers."""

from __future__ import annotations

from dataclasses import dataclass

from chatbot.config import fields
from chatbot.config.declaration import setting


@dataclass(frozen=True)
class WorkerSettings:
    """Workers"""

    concurrency: int = setting(
        "WORKER_CONCURRENCY", 500, fields.integer(1, 10_000), "Replies that one worker generates at the same time."
    )
    shutdown_timeout: float = setting(
        "WORKER_SHUTDOWN_TIMEOUT",
        10.0,
        fields.seconds(),
        "Seconds that a stopping worker has to finish replies; then it hands them to other workers.",
    )
    health_timeout: float = setting(
        "WORKER_HEALTH_TIMEOUT", 15.0, fields.seconds(), "Seconds without a task after which a worker counts as silent."
    )
