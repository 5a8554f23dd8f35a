"""The command `chatbot`: starts the processes of the installed package from any folder.

It imports no more of the application than the settings before it hands over to gunicorn, Celery or Flask, which run in
this process.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USAGE = """\
usage: chatbot COMMAND [BOT] [OPTIONS]

  chatbot web            serves the page, the HTTP routes and the websockets; options of gunicorn
  chatbot worker         generates replies; options of `celery worker`
  chatbot flower         shows workers and tasks; options of Flower
  chatbot model-check    asks the model, or the bot, one question
  chatbot keys           makes, lists and revokes API keys, and shows what they used
  chatbot end-session ID, chatbot end-sessions

A chat is `chatbot web` and `chatbot worker`, in two terminals, and a Redis with RedisJSON, such as Redis 8.
`make run` in the project's folder starts all of it, with a Redis, a small model and Flower.

BOT is a function of your own that answers: bot:reply is the function reply in bot.py in this folder. It may be named in
MODEL_CALLABLE instead. Settings come from the environment and from the file .env in this folder; Redis is where
REDIS_URL says."""

_APP, _WORKER = "chatbot.entry.wsgi", "chatbot.entry.celery_worker"
_BOT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_WITH_BOT = ("web", "worker", "model-check")
#: What Flask runs; its own commands serve development.
FLASK_COMMANDS = ("model-check", "keys", "end-session", "end-sessions")


def main() -> None:
    """Runs the command that the arguments of this process name, until it ends."""
    name, *arguments = sys.argv[1:] or [""]
    if name in ("", "help", "-h", "--help"):
        with _writing():
            print(USAGE, flush=True)
        raise SystemExit(0 if name else 2)
    if name in _WITH_BOT and arguments and not arguments[0].startswith("-"):
        if not _BOT.match(arguments[0]):
            raise SystemExit(f"BOT is module:function, such as bot:reply, not {arguments[0]}")
        from chatbot.config.sources import imply

        imply("MODEL_API", "python")
        os.environ["MODEL_CALLABLE"] = arguments.pop(0)
    if name == "web":
        _gunicorn(arguments)
    elif name in ("worker", "flower"):
        _celery(name, arguments)
    elif name in FLASK_COMMANDS:
        with _writing():
            _flask([name, *arguments])
    else:
        print(f"chatbot has no command {name}", USAGE, sep="\n\n", file=sys.stderr)
        raise SystemExit(2)


@contextmanager
def _writing() -> Iterator[None]:
    """Ends the process without a traceback if its output cannot be written: its reader is gone, or the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # What is still buffered would be written at the end, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(
            1 if error.errno == errno.EPIPE else f"the output cannot be written: {error.strerror}"
        ) from None


def _gunicorn(arguments: list[str]) -> None:
    from chatbot import logs

    # gunicorn reads this variable when it is imported, and expects a number.
    os.environ["WEB_CONCURRENCY"] = str(logs.settings_or_exit().web.processes)
    from gunicorn.app.wsgiapp import run

    # With these arguments gunicorn starts itself again (SIGUSR2).
    program = str(Path(sys.executable).with_name("gunicorn"))
    sys.argv = [program, "-c", "python:chatbot.entry.gunicorn_conf", f"{_APP}:app", *arguments]
    run()


def _celery(command: str, arguments: list[str]) -> None:
    from chatbot.worker.early_options import refuse_early

    if command == "worker":
        # Celery's own command would import another pool's packages, before it loads this program.
        refuse_early(arguments)
    from celery.__main__ import main as celery

    sys.argv = ["celery", "-A", _WORKER, command, *arguments]
    if command == "flower":
        sys.argv.append(f"--conf={Path(__file__).with_name('flower_conf.py')}")
    celery()


def _flask(arguments: list[str]) -> None:
    from flask.cli import cli

    # The settings read .env, and say what is wrong with it.
    os.environ["FLASK_SKIP_DOTENV"] = "1"
    cli.main(["--app", _APP, *arguments], prog_name="chatbot")
