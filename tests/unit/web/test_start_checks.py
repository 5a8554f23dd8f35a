"""What gunicorn would end with a traceback for, or start with although it cannot work, is refused in one sentence."""

from __future__ import annotations

import resource
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from chatbot.app import create_app
from chatbot.config import open_files
from chatbot.web import start_checks


@pytest.fixture(autouse=True)
def nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_checks, "_done", set())


@pytest.mark.parametrize(
    ("arguments", "variable", "says"),
    [
        (["-k", "eventlet", "wsgi:app"], "", "start gunicorn without -k"),
        (["-k", "sync", "wsgi:app"], "", "start gunicorn without -k"),
        (["--worker-class=no.such:Class", "wsgi:app"], "", "start gunicorn without -k"),
        (["wsgi:app"], "-k uvicorn.workers.UvicornWorker", "start gunicorn without -k"),
        (["wsgi"], "", "start gunicorn wsgi:app"),
        (["wsgi:application"], "", "start gunicorn wsgi:app"),
        (["nosuch:app"], "", "there is no module nosuch here: start gunicorn wsgi:app"),
        (["nosuch.wsgi:app"], "", "there is no module nosuch.wsgi here"),
        (["chatbot.entry.wsgi:create_app()"], "", "start gunicorn chatbot.entry.wsgi:app"),
    ],
)
def test_options_that_gunicorn_cannot_start_with_are_refused(arguments: list[str], variable: str, says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        start_checks.check_options(arguments, {"GUNICORN_CMD_ARGS": variable})


def test_other_options_are_left_to_gunicorn() -> None:
    start_checks.check_options(["-w", "2", "wsgi:app"], {"GUNICORN_CMD_ARGS": "--bind 'unbalanced"})
    start_checks.check_options(["-k", start_checks._WORKER_CLASS, "--nonsense", "wsgi:app"], {})
    assert not start_checks._done
    # The application is loaded outside of a web process, which is no --preload.
    start_checks.check_options(["--check-config", "wsgi:app"], {})
    start_checks.mark_configured()
    start_checks.check_app()


def master(address: Any = ("127.0.0.1", 0), **changes: Any) -> Any:
    chosen = {"worker_class": SimpleNamespace(get=lambda: start_checks._WORKER_CLASS)}
    given = {
        "workers": 1,
        "worker_connections": 9,
        "worker_tmp_dir": None,
        "certfile": None,
        "keyfile": None,
        "address": [address],
    }
    return SimpleNamespace(settings=chosen, **{**given, **changes})


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (("192.0.2.1", 8080), "HOST 192.0.2.1 is not an address of this machine"),
        (("127.0.0.1", 99999), "PORT 99999: a port is a number up to 65535"),
        ("/no/such/folder/socket", "this user cannot create files in /no/such/folder"),
        (str(Path(__file__).parent), "something else has this name"),
        ("/no/" + "x" * 120, "107 bytes at most"),
        (987, "-b fd://987: this is no open socket"),
        (0, "-b fd://0: this is no open socket"),
    ],
)
def test_an_address_at_which_gunicorn_cannot_listen_is_refused(address: Any, says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        start_checks.check_master(master(address))


def test_an_address_at_which_gunicorn_can_listen_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for address in (("127.0.0.1", 0), str(tmp_path / "new"), server.fileno()):
            start_checks.check_master(master(address))
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)
        server.bind("old")
        start_checks.check_master(master("old"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"certfile": "/nowhere.pem"}, "must name a certificate and its key"),
        ({"certfile": __file__, "keyfile": __file__}, "must name a certificate and its key"),
        ({"worker_tmp_dir": "/nowhere"}, "--worker-tmp-dir /nowhere"),
        ({"workers": 0}, "start it without -w"),
        ({"worker_connections": 0}, "accepts no connection: leave it out"),
    ],
)
def test_other_settings_that_cannot_work_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        start_checks.check_master(master(**changes))


def test_other_servers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "waitress", ModuleType("waitress"))
    with pytest.raises(SystemExit, match="waitress cannot hold the chat's websockets: start gunicorn wsgi:app"):
        create_app()


def test_a_limit_of_open_files_that_is_too_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 20))
    with pytest.raises(SystemExit, match="may have 20 files open, which is too few"):
        open_files.raise_limit()
