"""Refuses, in one sentence, what would start a web process or Flower that cannot work.

gunicorn.conf.py imports this module before gevent has patched the standard library, so it imports nothing of the
application.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shlex
import socket
import ssl
import stat
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

_WORKER_CLASS = "chatbot.web.gunicorn.worker.GunicornWorker"
#: gunicorn's exit status of a process that cannot load the application; its master ends, and starts no other.
_APP_LOAD_ERROR = 4
#: Seconds for which a port may be in use: another server may be about to end.
_PORT_TIMEOUT = 2.0
#: Variables with listening sockets that gunicorn gets from systemd, or from a master that it replaces.
_INHERITED = ("LISTEN_FDS", "GUNICORN_FD")

#: The modules that hold the application.
_MODULES = ("wsgi", "chatbot.entry.wsgi")
_HIGHEST_PORT = 65535
#: Bytes, on Linux; some systems take fewer.
_LONGEST_SOCKET_PATH = 107

_CONFIGURATION = (
    "gunicorn did not read gunicorn.conf.py: start it in the project's folder, or with -c PATH/gunicorn.conf.py, or "
    "run chatbot web"
)
_PRELOAD = "--preload does not work here, as connections do not survive a fork: start gunicorn without it"
_NO_WORKER = "this module has no worker: run celery -A celery_worker worker"
_DEVELOPMENT_SERVER = "flask run serves no websockets of this program: start gunicorn wsgi:app"
WITHOUT_SERVER = "this file is started by a server: run gunicorn wsgi:app"

#: Modules of servers that would load the application, and answer a part of its requests.
_OTHER_SERVERS = ("waitress", "uwsgi", "uvicorn", "hypercorn", "daphne", "granian", "mod_wsgi", "cheroot", "bjoern")

#: What the master of a gunicorn has done; its processes inherit it.
_done: set[str] = set()


def mark_configured() -> None:
    """Records that gunicorn reads gunicorn.conf.py."""
    _done.add("configured")


def check_options(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Ends gunicorn for options that it would end with a traceback for, or with advice that does not fit here.

    Called while gunicorn reads gunicorn.conf.py, before it looks at the options itself."""
    from gunicorn.config import Config

    parser = Config().parser()
    try:
        in_variable = shlex.split(environ.get("GUNICORN_CMD_ARGS", ""))
    except ValueError:
        # gunicorn reports it.
        return
    for given in (parser.parse_known_args(in_variable)[0], parser.parse_known_args(arguments)[0]):
        if given.worker_class is not None:
            _check_worker_class(given.worker_class)
        if given.check_config or given.print_config:
            _done.add("loads for a check")
        module, _, name = (given.args[0] if given.args else "").partition(":")
        if module in _MODULES and name != "app":
            raise SystemExit(f"the application is {module}:app: start gunicorn {module}:app")
        if module and not given.pythonpath and not _is_module(module):
            raise SystemExit(f"there is no module {module} here: start gunicorn wsgi:app")


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _check_worker_class(chosen: str) -> None:
    if chosen != _WORKER_CLASS:
        raise SystemExit(f"the worker class {chosen} cannot hold the chat's websockets: start gunicorn without -k")


def check_master(cfg: Any) -> None:
    """Ends gunicorn's master for an unusable configuration, before it starts processes."""
    _done.add("started")
    _check_worker_class(cfg.settings["worker_class"].get())
    if cfg.workers < 1:
        raise SystemExit(f"with {cfg.workers} processes gunicorn serves nothing: start it without -w")
    if cfg.worker_connections < 1:
        raise SystemExit("with --worker-connections 0 gunicorn accepts no connection: leave it out")
    check_temporary_folder()
    if cfg.worker_tmp_dir and not os.access(cfg.worker_tmp_dir, os.W_OK | os.X_OK):
        raise SystemExit(f"--worker-tmp-dir {cfg.worker_tmp_dir} is no folder that can be written to: leave it out")
    if cfg.certfile or cfg.keyfile:
        _check_certificate(cfg.certfile, cfg.keyfile)
    if not any(os.environ.get(variable) for variable in _INHERITED):
        for address in cfg.address:
            _check_address(address)


def _check_address(address: tuple[str, int] | str | int) -> None:
    """Ends the process if it cannot listen there: at a host and a port, a Unix socket, or an open descriptor."""
    if isinstance(address, tuple):
        check_port(address[0], address[1], "PORT")
    elif isinstance(address, str):
        check_socket(address, "-b unix:")
    else:
        try:
            if stat.S_ISSOCK(os.fstat(address).st_mode):
                return
        except OSError:
            pass
        raise SystemExit(f"-b fd://{address}: this is no open socket, correct the number")


def check_socket(path: str, option: str) -> None:
    """Ends the process if it cannot listen at a Unix socket, which `option` names."""
    problem = _socket_problem(path)
    if problem:
        raise SystemExit(f"{option}{path}: {problem}")


def _socket_problem(path: str) -> str | None:
    folder = os.path.dirname(os.path.abspath(path))
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        return f"a socket's path has {_LONGEST_SOCKET_PATH} bytes at most, choose a shorter one"
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        return "something else has this name, choose another one"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"this user cannot create files in {folder}, create it or change its owner"
    return None


def _check_certificate(certificate: str | None, key: str | None) -> None:
    try:
        # With an empty password OpenSSL does not ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate or "", key, "")
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"--certfile and --keyfile must name a certificate and its key without a password, in PEM form: {error}"
        ) from None


def check_app() -> None:
    """Ends a process that loads the application without the server that it needs."""
    command = click.get_current_context(silent=True)
    if command is not None and command.info_name == "run":
        raise SystemExit(_DEVELOPMENT_SERVER)
    if command is not None and command.find_root().command.name == "celery":
        raise SystemExit(_NO_WORKER)
    if other := next((name for name in _OTHER_SERVERS if name in sys.modules), None):
        raise SystemExit(f"{other} cannot hold the chat's websockets: start gunicorn wsgi:app")
    if "gunicorn.arbiter" in sys.modules and not _done & {"started", "loads for a check"}:
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
    if not 0 <= port <= _HIGHEST_PORT:
        raise SystemExit(f"{variable} {port}: a port is a number up to {_HIGHEST_PORT}")
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
