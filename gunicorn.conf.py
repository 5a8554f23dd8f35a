"""How `gunicorn wsgi:app` serves. WEB_CONCURRENCY sets the number of processes, as gunicorn has it."""

import contextlib
import ctypes
import gc
import resource
import threading
import time

from chatbot.config import load_settings
from chatbot.logs import Redactor

_settings = load_settings()

bind = f"{_settings.host}:{_settings.port}"
worker_class = "chatbot.web.server.Worker"
#: Each socket is one connection.
worker_connections = _settings.max_sockets + 1000
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


def on_starting(server):  # type: ignore[no-untyped-def]
    """gunicorn repeats malformed requests in its log, tokens and all."""
    server.log.error_log.addFilter(Redactor())
    # A connection is an open file, of which a process often may have no more than 1024 unless it asks.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Tells this process' sockets when it is to end: gunicorn would wait for them, then cut them."""
    hub = worker.wsgi.extensions["chatbot"].hub
    # What is there now stays: without it a collection takes little.
    gc.collect()
    gc.freeze()

    def watch() -> None:
        tidied = time.monotonic()
        while worker.alive:
            time.sleep(0.1)
            if time.monotonic() - tidied > _TIDY_INTERVAL and len(hub) < _FEW_SOCKETS:
                _tidy()
                tidied = time.monotonic()
        hub.go_away(_SPREAD)

    threading.Thread(target=watch, name="going-away", daemon=True).start()


def _tidy() -> None:
    """Gives back what a rush of connections took: collected late, and kept by the C library, it would stay for good."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
