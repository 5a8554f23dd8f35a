"""For `celery -A tests.support.stuck_worker worker`: the worker, with a task that never ends."""

import threading

from celery_worker import celery_app


@celery_app.task(name="tests.stuck", send_events=False)  # type: ignore[untyped-decorator]
def stuck() -> None:
    """Occupies a thread of the pool forever."""
    threading.Event().wait()
