"""How `gunicorn wsgi:app` serves. WEB_CONCURRENCY sets the number of processes, as gunicorn has it."""

import contextlib
import ctypes
import fcntl
import gc
import glob
import logging
import os
import resource
import shutil
import tempfile
import threading
import time
import warnings

import gevent
from gunicorn.glogging import Logger

from chatbot.config import load_settings
from chatbot.logs import Redactor, formatter

_settings = load_settings()

# Where each greenlet was started, and its parents, is for debugging only: it takes a tenth of a socket's memory.
gevent.config.track_greenlet_tree = False

# Reading the settings imports redis, before gevent patches: what of it that does not reach is not used here.
warnings.filterwarnings("ignore", r"(?s)Monkey-patching ssl.*NOT patched\): \['redis\.asyncio\.connection [^,]*\]\.")

bind = f"{_settings.web.host}:{_settings.web.port}"
worker_class = "chatbot.web.gunicorn_worker.Worker"
#: Each socket is one connection.
worker_connections = _settings.limits.max_sockets + 1000
backlog = 4096
#: Seconds for sockets to be told of the end and for requests to finish.
graceful_timeout = 10
#: The default line would hold the query, and with it tokens.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(b)s %(L)s'
control_socket_disable = True
#: Whom to believe what about a client is TRUSTED_PROXIES' to say, and read in chatbot/web/proxies.py alone.
forwarded_allow_ips = ""
secure_scheme_headers = {}
forwarder_headers = ""

#: Seconds over which sockets are told to reconnect, so that they don't all come back at once.
_SPREAD = 1.5
#: Seconds between two tidyings, and sockets with which the pause is a few ms.
_TIDY_INTERVAL = 15.0
_FEW_SOCKETS = 200
#: New objects, most of them short-lived, between two looks at them for garbage.
_YOUNG = 10_000


#: Where the processes share what they count; prometheus_client reads it when it is imported.
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "chatbot-metrics-"
#: Seconds for which a folder is left alone: whoever made it may not have locked it yet.
_YOUNG_FOLDER = 60.0


class _Logger(Logger):
    """Lines like those of the application. gunicorn repeats malformed requests in its log, tokens and all."""

    def setup(self, cfg):  # type: ignore[no-untyped-def]
        """Called again when the configuration is."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.filters[:] = [Redactor()]
            for handler in log.handlers:
                handler.setFormatter(formatter(_settings))


logger_class = _Logger


def on_starting(_):  # type: ignore[no-untyped-def]
    """Before there are any processes."""
    _remove_what_is_left()
    os.environ[_METRICS] = tempfile.mkdtemp(prefix=_PREFIX)
    # Held by the master and by all that it forks, for as long as any of them lives.
    fcntl.flock(os.open(os.environ[_METRICS], os.O_RDONLY), fcntl.LOCK_EX)
    # A connection is an open file, of which a process often may have no more than 1024 unless it asks.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _remove_what_is_left() -> None:
    """What a master that was killed could not: its folder of counts."""
    for folder in glob.glob(os.path.join(tempfile.gettempdir(), f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(folder).st_mtime < _YOUNG_FOLDER:
                continue
            found = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(found)


def on_exit(_):  # type: ignore[no-untyped-def]
    """What was counted ends with the master."""
    shutil.rmtree(os.environ[_METRICS], ignore_errors=True)


def child_exit(_, worker):  # type: ignore[no-untyped-def]
    """The sockets of a process that is gone are open no more; what it counted stays counted."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)


def worker_exit(_, worker):  # type: ignore[no-untyped-def]
    """Ends a process that served well without taking the interpreter down: what is left of gevent complains then."""
    if worker.booted and not worker.alive:
        logging.shutdown()
        os._exit(0)


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Begins to listen; tells this process' sockets when it is to end: gunicorn would wait for them, then cut them."""
    hub = worker.wsgi.extensions["chatbot"].hub
    hub.start()
    # What is there now stays: without it a collection takes little.
    gc.collect()
    gc.freeze()
    # A connection is a few hundred objects: with Python's own thresholds a rush of them is looked through hundreds of
    # times, which took an eighth of it.
    gc.set_threshold(_YOUNG, 5, 5)

    def watch() -> None:
        tidied, sockets = time.monotonic(), 0
        while worker.alive:
            time.sleep(0.1)
            # Not in the middle of a rush.
            calm, sockets = len(hub) == sockets < _FEW_SOCKETS, len(hub)
            if calm and time.monotonic() - tidied > _TIDY_INTERVAL:
                _tidy()
                tidied = time.monotonic()
        hub.go_away(_SPREAD)

    threading.Thread(target=watch, name="going-away", daemon=True).start()


def _tidy() -> None:
    """Gives back what a rush of connections took: collected late, and kept by the C library, it would stay for good."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
