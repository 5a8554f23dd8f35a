"""The Celery app of workers: options, tasks, and what happens at start and shutdown.

The options here are the worker's; web needs the rest too, in `queue/celery_app.py`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from dataclasses import replace
from functools import partial
from typing import Any

from celery import Celery, concurrency, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.utils.nodenames import node_format

from chatbot import logs, tracing
from chatbot.config import PYTHON, Settings, garbage_collection, open_files
from chatbot.config.broker_urls import is_amqp
from chatbot.errors import ConfigurationError
from chatbot.queue.celery_app import HEARTBEAT, create_celery
from chatbot.worker.bots.loader import load_callable
from chatbot.worker.celery_extensions import BatchEvents, SoloConsumer, log_notices
from chatbot.worker.early_options import refuse_early
from chatbot.worker.liveness_canary import Canary
from chatbot.worker.models.http.endpoint import check_certificate
from chatbot.worker.pool import LoopPool
from chatbot.worker.recovery import Recovery
from chatbot.worker.services import WorkerServices
from chatbot.worker.start_checks import check_options, given, refuse_beat, wait_until_usable, warn_of_namesake
from chatbot.worker.tasks import add_tasks

logger = logging.getLogger(__name__)


def create_worker(settings: Settings) -> Celery:
    """The app for `celery -A celery_worker worker` and `flower`."""
    refuse_beat()
    refuse_early(sys.argv[1:])
    logs.take_over_output(settings, streams=False)
    celery = create_celery(settings)
    # For `-P threads` too.
    concurrency.ALIASES["threads"] = f"{LoopPool.__module__}:{LoopPool.__name__}"
    celery.events_cls = f"{BatchEvents.__module__}:{BatchEvents.__name__}"
    celery.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Whatever Redis refuses (too few replicas, no memory), the worker keeps running and retries.
        broker_channel_error_retry=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # A reply is a long wait for a model, not work: one process holds hundreds.
        worker_pool="threads",
        worker_concurrency=settings.worker.concurrency,
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_consumer=f"{SoloConsumer.__module__}:{SoloConsumer.__name__}",
    )
    if is_amqp(settings.redis.broker_url):
        celery.conf.broker_heartbeat = HEARTBEAT
    services = WorkerServices(settings)
    celery.task_loop = services.task_loop
    add_tasks(celery, services)
    # By default signals hold their receivers weakly.
    signals.celeryd_init.connect(partial(_apply_options, celery, services), weak=False)
    signals.celeryd_init.connect(partial(_set_up_output, settings), weak=False)
    signals.setup_logging.connect(_set_up_logging)
    signals.celeryd_after_setup.connect(partial(_check_model, settings), weak=False)
    signals.celeryd_after_setup.connect(partial(_set_up_threads, celery, services, settings), weak=False)
    return celery


def _apply_options(celery: Celery, services: WorkerServices, **_: Any) -> None:
    threads = check_options()
    open_files.raise_limit()
    if threads is not None:
        services.slots = celery.conf.worker_concurrency = threads


def _set_up_output(settings: Settings, *, sender: str, options: dict[str, Any], **_: Any) -> None:
    """Replaces Celery's logging, before Celery's first warning.

    `-l` counts before LOG_LEVEL, and `-f` before standard error. `sender` is the node's name.
    """
    if given("loglevel") is not None:
        level = logging.getLevelName(options["loglevel"])
        settings = replace(settings, log=replace(settings.log, level=level))
    file = node_format(options.get("logfile"), sender)
    try:
        logs.configure(settings, file)
    except OSError as error:
        # Celery would go on without a log.
        raise SystemExit(f"-f {file} cannot be written: {error.strerror}") from None
    logs.take_over_output(settings)
    log_notices(settings)
    if os.geteuid() == 0:
        logger.warning("this worker runs as root, which it does not need: start it as another user, or with --uid")
    # Celery says so in several lines.
    warnings.filterwarnings("ignore", category=SecurityWarning)


def _set_up_logging(**_: Any) -> None:
    """Keeps Celery, which asks for a receiver of this signal, from setting up its own logging."""


def _check_model(settings: Settings, **_: Any) -> None:
    """Ends a worker that cannot use its client certificate or its callable; Flower needs neither."""
    try:
        check_certificate(settings.model.client_certificate)
        if settings.model.api == PYTHON:
            load_callable(str(settings.model.callable))
    except ConfigurationError as error:
        raise SystemExit(f"Settings: {error}") from None


def _set_up_threads(
    celery: Celery, services: WorkerServices, settings: Settings, *, sender: str, instance: Any, **_: Any
) -> None:
    """Adds the canary's queue before the worker starts; `sender` is the node's name, `instance` the worker."""
    # At each loss of the broker Celery warns that tasks will be redelivered; here the ledger does that. Celery enables
    # these warnings when it sets up its logging.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    tracing.start("worker")
    wait_until_usable(settings)
    services.partitions.announce()
    warn_of_namesake(services.client, sender, settings.worker.health_timeout)
    canary = Canary(celery, services, worker=f"{sender} {os.getpid()}", timeout=settings.worker.health_timeout)
    canary.add_queue()
    # Celery writes the banner past `sys.stdout`.
    instance.quiet = instance.quiet or logs.is_json(settings)
    recovery = Recovery(
        celery, services, lambda: getattr(getattr(instance, "consumer", None), "connection", None) is not None
    )
    # Without waiting for the broker, which recovery does not need.
    recovery.start()
    signals.worker_ready.connect(lambda **_: logs.mark_started(), weak=False)
    signals.worker_ready.connect(lambda **_: canary.start(), weak=False)
    drain_at_shutdown(canary, recovery, services)
    # Before the pool starts: processes that it forks have it, too.
    garbage_collection.tune()
    signals.worker_shutdown.connect(partial(_end_shutdown, canary), weak=False)


def drain_at_shutdown(canary: Canary, recovery: Recovery, services: WorkerServices) -> None:
    """Starts a thread that stops the worker's own work when the worker begins to shut down.

    Celery says that in its signal handler. There a lock, also an event's, may be one that the interrupted thread holds:
    a second signal stopped a worker for ever. Writing to a pipe takes none.
    """
    begun, begin = os.pipe()

    def drain() -> None:
        os.read(begun, 1)
        recovery.stop()
        canary.unregister()
        services.drain()

    threading.Thread(target=drain, name="drain", daemon=True).start()
    signals.worker_shutting_down.connect(lambda **_: os.write(begin, b"."), weak=False)


def _end_shutdown(canary: Canary, **_: Any) -> None:
    # Again: a canary that was still running may have registered the worker anew.
    canary.unregister()
    canary.flush()
    tracing.finish()
