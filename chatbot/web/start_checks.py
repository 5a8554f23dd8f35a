"""Refuses, in one sentence, what would start a web process or Flower that cannot work.

gunicorn.conf.py imports this module before gevent has patched the standard library, so it imports nothing of the
application.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
import time
from typing import Any

import click

_WORKER_CLASS = "chatbot.web.gunicorn_worker.GunicornWorker"
#: gunicorn's exit status of a process that cannot load the application; its master ends, and starts no other.
_APP_LOAD_ERROR = 4
#: Seconds for which a port may be in use: another server may be about to end.
_PORT_TIMEOUT = 2.0
#: Variables with listening sockets that gunicorn gets from systemd, or from a master that it replaces.
_INHERITED = ("LISTEN_FDS", "GUNICORN_FD")

_CONFIGURATION = (
    "gunicorn did not read gunicorn.conf.py: start it in the project's folder, or with -c PATH/gunicorn.conf.py, or "
    "run chatbot web"
)
_PRELOAD = "--preload does not work here, as connections do not survive a fork: start gunicorn without it"
_DEVELOPMENT_SERVER = "flask run serves no websockets of this program: start gunicorn wsgi:app"
WITHOUT_SERVER = "this file is started by a server: run gunicorn wsgi:app"

#: What the master of a gunicorn has done; its processes inherit it.
_done: set[str] = set()


def mark_configured() -> None:
    """Records that gunicorn reads gunicorn.conf.py."""
    _done.add("configured")


def check_master(cfg: Any) -> None:
    """Ends gunicorn's master for an unusable configuration, before it starts processes."""
    _done.add("started")
    chosen = cfg.settings["worker_class"].get()
    if chosen != _WORKER_CLASS:
        raise SystemExit(f"the worker class {chosen} cannot hold the chat's websockets: start gunicorn without -k")
    if cfg.workers < 1:
        raise SystemExit(f"with {cfg.workers} processes gunicorn serves nothing: start it without -w")
    check_temporary_folder()
    if not any(os.environ.get(variable) for variable in _INHERITED):
        for address in cfg.address:
            if isinstance(address, tuple):
                check_port(address[0], address[1], "PORT")


def check_app() -> None:
    """Ends a process that loads the application without the server that it needs."""
    command = click.get_current_context(silent=True)
    if command is not None and command.info_name == "run":
        raise SystemExit(_DEVELOPMENT_SERVER)
    if "gunicorn.arbiter" in sys.modules and "started" not in _done:
        if "configured" in _done:
            raise SystemExit(_PRELOAD)
        print(_CONFIGURATION, file=sys.stderr)
        raise SystemExit(_APP_LOAD_ERROR)


def check_temporary_folder() -> None:
    """Ends the process if no temporary file can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise SystemExit("no folder for temporary files can be written to: set TMPDIR to one that can") from None


def check_port(host: str, port: int, variable: str) -> None:
    """Ends the process if it cannot listen on the port, which `variable` sets."""
    deadline = time.monotonic() + _PORT_TIMEOUT
    while problem := _problem(host, port, variable):
        if not problem.startswith("port") or time.monotonic() > deadline:
            raise SystemExit(problem)
        time.sleep(0.1)


def _problem(host: str, port: int, variable: str) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    host_variable = variable.replace("PORT", "ADDRESS" if variable.startswith("FLOWER") else "HOST")
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
        except socket.gaierror:
            return f"{host_variable} {host} is a name without an address: correct it"
        except PermissionError:
            return f"{variable} {port} is reserved for the system: set a {variable} above 1023"
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} of {host} is in use: stop what listens there, or set {variable}"
            return f"{host_variable} {host} is not an address of this machine: correct it"
    return None
