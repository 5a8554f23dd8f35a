"""Refuses, in one sentence, options of `celery worker` that would have no effect or do harm; applies the others."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import redis
from amqp.exceptions import AccessRefused, NotAllowed
from click.core import ParameterSource
from kombu.connection import Connection

from chatbot.config import Settings
from chatbot.config.broker_urls import is_amqp
from chatbot.errors import StoreUnavailable
from chatbot.queue.celery_app import BROKER_ERRORS, PUBLISH_TIMEOUT
from chatbot.queue.redis_broker import CLUSTER_PREFIX
from chatbot.store.access import SESSION_COMMANDS, queue_commands
from chatbot.store.client import database
from chatbot.store.cluster.topology import is_cluster
from chatbot.telemetry import liveness
from chatbot.telemetry.redis_use import check_use
from chatbot.worker.early_options import refuse_pool, refuse_slots

logger = logging.getLogger(__name__)

NO_BEAT = "there is no Celery beat in this program, as workers send what is overdue: run celery -A celery_worker worker"
_QUEUE = "celery"
#: Bytes that are read of a file that should hold the number of a process.
_LONGEST_PID = 32
#: Seconds between two attempts to use Redis at start.
_RETRY_INTERVAL = 1.0
_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
_ONE_PROCESS = "has no effect, as all replies of a worker run in one process"
#: Celery's names of options, and what to do without them.
_REFUSED = {
    "autoscale": f"--autoscale {_ONE_PROCESS}: set WORKER_CONCURRENCY, or use -c",
    "beat": f"-B: {NO_BEAT}, without -B",
    "time_limit": f"--time-limit {_ONE_PROCESS}: set MODEL_TIMEOUT",
    "soft_time_limit": f"--soft-time-limit {_ONE_PROCESS}: set MODEL_TIMEOUT",
    "max_tasks_per_child": f"--max-tasks-per-child {_ONE_PROCESS}: leave it out",
    "max_memory_per_child": f"--max-memory-per-child {_ONE_PROCESS}: leave it out",
    "pool_start_method": f"--pool-start-method {_ONE_PROCESS}: leave it out",
    "disable_prefetch": "--disable-prefetch does not work with this program's queue: leave it out",
    "include": "-I: all tasks are this program's own: leave it out",
    "statedb": "--statedb has nothing to store, as this program revokes no tasks: leave it out",
    "prefetch_multiplier": "--prefetch-multiplier would make messages wait in one worker: leave it out",
}


def refuse_beat() -> None:
    """Ends `celery beat` before it writes its banner, and a file of its own."""
    context = click.get_current_context(silent=True)
    if context is not None and context.invoked_subcommand == "beat":
        raise SystemExit(NO_BEAT)


def given(name: str) -> Any:
    """The value of an option that was given on the command line or in the environment, else None."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source(name) not in _GIVEN:
        return None
    return context.params[name]


def check_options() -> int | None:
    """The replies at a time that `-c` asks for, None without it. Ends the process for an option that is refused."""
    for name, sentence in _REFUSED.items():
        if given(name) is not None:
            raise SystemExit(sentence)
    if given("pool") is not None:
        refuse_pool(sys.argv)
    _check_pid_file(given("pidfile"))
    queues, excluded = given("queues"), given("exclude_queues")
    if (queues is not None and _QUEUE not in queues) or _QUEUE in (excluded or ()):
        raise SystemExit(
            f"-Q and -X: this worker would answer no message, as all are in the queue {_QUEUE}: leave it out"
        )
    slots = given("concurrency")
    if slots is None:
        return None
    refuse_slots(str(slots))
    return int(slots)


def _check_pid_file(path: str | None) -> None:
    """Ends the process if it cannot have this file for its number: Celery would delete another one of this name."""
    if not path:
        return
    try:
        folder = os.path.dirname(os.path.abspath(path))
        written = Path(path).read_bytes()[:_LONGEST_PID].strip() if os.path.lexists(path) else b""
        usable = os.access(folder, os.W_OK | os.X_OK) and (not written or written.isdigit())
    except OSError:
        usable = False
    if not usable:
        raise SystemExit(f"--pidfile {path} is another file, or cannot be written: name a file of its own")


def wait_until_usable(settings: Settings) -> None:
    """Waits until Redis and the broker can be used, and logs once what keeps this worker from it.

    A broker that does not answer delays nothing: replies that are owed need none.
    """
    urls, broker = settings.redis.urls, settings.redis.broker_url
    commands = "" if is_amqp(broker) else queue_commands(database(broker), CLUSTER_PREFIX if is_cluster(broker) else "")
    # A broker that is among them needs the rights of both.
    _wait({url: f"{SESSION_COMMANDS}|{commands}" if url == broker else SESSION_COMMANDS for url in urls}, "REDIS_URL")
    if is_amqp(broker):
        _wait_for_rabbitmq(broker)
    if commands and broker not in urls:
        _wait({broker: commands}, "CELERY_BROKER_URL", needed=False)


def _wait_for_rabbitmq(url: str) -> None:
    """Waits while RabbitMQ refuses the login or the virtual host, over which Celery would end the worker."""
    reported = False
    while _refuses(url):
        if not reported:
            reported = True
            logger.error(
                "this worker waits: RabbitMQ refuses the user, the password or the virtual host of CELERY_BROKER_URL"
            )
        time.sleep(_RETRY_INTERVAL)
    if reported:
        logger.info("this worker can use RabbitMQ now")


def _refuses(url: str) -> bool:
    try:
        with Connection(url, connect_timeout=PUBLISH_TIMEOUT, heartbeat=0) as connection:
            connection.connect()
    except (AccessRefused, NotAllowed):
        return True
    except BROKER_ERRORS:
        # Celery tries again, and recovery needs no broker.
        return False
    return False


def _wait(commands: Mapping[str, str], variable: str, *, needed: bool = True) -> None:
    """Waits until one of several Redis, by URL, can be used for its commands."""
    reported: dict[str, str | None] = {}
    while True:
        found = {url: check_use(url, wanted, variable) for url, wanted in commands.items()}
        problems = {url: use.problem if needed or use.answers else None for url, use in found.items()}
        for number, (url, problem) in enumerate(problems.items(), 1):
            if problem and problem != reported.get(url):
                logger.error("this worker waits%s: %s", _which(number, len(commands)), problem)
        if None in problems.values():
            break
        reported.update(problems)
        time.sleep(_RETRY_INTERVAL)
    for number, use in enumerate(found.values(), 1):
        if use.advice:
            logger.warning("messages may be lost%s: %s", _which(number, len(commands)), use.advice)
    if reported:
        logger.info("this worker can use Redis now")


def _which(number: int, count: int) -> str:
    return f" for Redis {number} of {count}" if count > 1 else ""


def warn_of_namesake(client: redis.Redis, node: str, timeout: float) -> None:
    """Logs that another worker that runs on this machine has the name `node`."""
    try:
        ages = liveness.read_workers(client, timeout).ages
    except StoreUnavailable:
        # The worker's own first steps report it.
        return
    for worker in ages:
        name, _, pid = worker.rpartition(" ")
        if name == node and pid != str(os.getpid()) and liveness.runs_here(pid):
            logger.warning(
                "process %s is a worker with the name %s too, and Flower shows them as one: start this one with -n "
                "worker2@%%h or the like",
                pid,
                node,
            )
