"""Runs the whole chat on this machine until Ctrl-C: Redis, a small language model, web, worker and Flower.

Settings come from the environment and from `.env` in the current folder; the environment wins. Exit status 0
after Ctrl-C, 1 for an invalid setting or a service that could not be kept running.
"""

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from chatbot.config import Settings
from chatbot.config.reader import load_env_file
from chatbot.errors import ConfigurationError
from devtools.local import probes
from devtools.local.plan import CannotRun, LocalSettings, make_plan, uses_local_redis, writing
from devtools.local.supervisor import Supervisor


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Lock ``data_dir``, made if missing, for this process alone: two Redis servers in it would ruin its data.

    Raises CannotRun when another process holds the lock, or this one cannot write there.
    """
    with writing(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = f"Another `make run` uses {data_dir}: end it, or set LOCAL_DATA_DIR to another folder"
            raise CannotRun([problem]) from None
        yield


def check_redis(env: Mapping[str, str]) -> None:
    """Raise CannotRun when a Redis is named in ``env`` that cannot be used: all services would wait for it."""
    if not uses_local_redis(env) and (problem := probes.why_redis_is_unusable(Settings.from_env(env).redis)):
        raise CannotRun([f"{problem}\nWithout REDIS_URL and REDIS_HOST, `make run` starts a Redis of its own"])


def new_log(path: Path) -> TextIO:
    """Open an empty log. That of the run before, which may say why it failed, is kept as ``NAME.previous.log``."""
    if path.exists():
        path.replace(path.with_suffix(".previous.log"))
    return path.open("w", encoding="utf-8")


def main() -> int:
    """Plan, check, run. Returns the exit status."""
    argparse.ArgumentParser(prog="make run", description=__doc__).parse_args()
    folder = Path.cwd()
    try:
        load_env_file()
        data_dir = folder / (os.environ.get("LOCAL_DATA_DIR") or LocalSettings.data_dir)
        if data_dir.exists():
            with locked(data_dir):  # before the ports are checked, which another run has taken too
                pass
        plan = make_plan(os.environ, data_dir)
        check_redis(os.environ)
        with locked(data_dir):
            for remark in plan.remarks:
                print(remark, flush=True)
            with writing(data_dir):
                log_file = new_log(plan.log)
            with log_file:
                shown = plan.log.relative_to(folder) if plan.log.is_relative_to(folder) else plan.log
                print(f"Starting: it takes some seconds. The log is in {shown}", flush=True)
                supervisor = Supervisor(
                    plan.services, stop_order=plan.stop_order, when_ready=plan.welcome, log_file=log_file
                )
                return supervisor.run()
    except (CannotRun, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before anything was started
        return 130
    finally:
        _close_stdout()


def _close_stdout() -> None:
    """Keep Python from complaining at exit when the reader of stdout ended first, as `tee` does on Ctrl-C."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
