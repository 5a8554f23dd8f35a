"""The configuration of gunicorn. It is read before gevent patches the standard library."""

import os
import sys
import warnings

import gevent

from chatbot import logs
from chatbot.web.gunicorn.hooks import (  # noqa: F401
    child_exit,
    on_exit,
    on_starting,
    post_worker_init,
    when_ready,
    worker_exit,
)
from chatbot.web.gunicorn.logger import GunicornLogger
from chatbot.web.start_checks import check_options, mark_configured

mark_configured()
_settings = logs.settings_or_exit()
logs.take_over_output(_settings)
check_options(sys.argv[1:], os.environ)

# gevent would store for each greenlet where it was started, for debugging: a tenth of a socket's memory.
gevent.config.track_greenlet_tree = False

# Reading the settings imports redis before gevent patches ssl; the part of redis that misses it is not used.
warnings.filterwarnings("ignore", r"(?s)Monkey-patching ssl.*NOT patched\): \['redis\.asyncio\.connection [^,]*\]\.")

_host = _settings.web.host
bind = f"{f'[{_host}]' if ':' in _host else _host}:{_settings.web.port}"
workers = _settings.web.processes
worker_class = "chatbot.web.gunicorn.worker.GunicornWorker"
logger_class = GunicornLogger
#: Each socket is one connection; the rest is for HTTP.
worker_connections = _settings.limits.max_sockets + 1000
backlog = 4096
#: Seconds on shutdown for closing sockets and for finishing requests.
graceful_timeout = 10
#: Without the query, which may hold a token.
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(b)s %(L)s'
control_socket_disable = True
# Forwarded headers are read in chatbot/web/proxies.py only, as TRUSTED_PROXIES allows.
forwarded_allow_ips = ""
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
