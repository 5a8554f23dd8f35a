"""The folder in which the processes of one gunicorn share their metrics (prometheus_client's multiprocess mode)."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
import time

#: prometheus_client reads this variable when it is imported.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "chatbot-metrics-"
#: Seconds after its creation during which a folder is not removed: its owner may not have locked it yet.
_MIN_AGE = 60.0


def create() -> None:
    """Creates the folder, names it in the environment, and locks it for as long as this process or a fork lives."""
    os.environ[VARIABLE] = tempfile.mkdtemp(prefix=_PREFIX)
    fcntl.flock(os.open(os.environ[VARIABLE], os.O_RDONLY), fcntl.LOCK_EX)


def remove() -> None:
    """Removes this gunicorn's folder."""
    shutil.rmtree(os.environ[VARIABLE], ignore_errors=True)


def remove_abandoned() -> None:
    """Removes the folders of gunicorns that were killed: those without a lock."""
    for folder in glob.glob(os.path.join(tempfile.gettempdir(), f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(folder).st_mtime < _MIN_AGE:
                continue
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)
