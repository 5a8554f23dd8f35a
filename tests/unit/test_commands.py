"""What is refused on the command line before anything is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from click.testing import CliRunner

from chatbot.entry.commands import FLASK_COMMANDS, USAGE, main
from chatbot.errors import StoreUnavailable
from chatbot.web.commands.keys import key_commands
from chatbot.web.commands.store_command import StoreCommand


@pytest.mark.parametrize("command", ["web", "worker", "model-check"])
def test_a_bot_without_its_function_is_refused_in_one_line(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatbot", command, "bot"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", "BOT is module:function, such as bot:reply, not bot\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        # Celery would import another pool's packages before it loads this program.
        (["worker", "-P", "eventlet"], "leave -P out"),
        (["worker", "--pool=custom", "-c", "3"], "leave -P out"),
        (["worker", "-P=prefork"], "leave -P out"),
        (["worker", "--uid", "nosuch"], "--uid nosuch: this machine has no such name"),
        (["worker", "-c", "3", "--gid=nosuch"], "--gid nosuch: this machine has no such name"),
    ],
)
def test_a_command_that_cannot_work_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["chatbot", *arguments])
    with pytest.raises(SystemExit, match=says):
        main()


def test_output_that_cannot_be_written_ends_a_command_without_a_traceback() -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    with open(pipe, "wb") as unread, open("/dev/full", "wb") as full:
        for output, says in (
            (unread, ""),
            (full, "the output cannot be written: No space left on device\n"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "chatbot", "--help"],
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode, done.stderr) == (1, says)


@pytest.mark.parametrize("number", ["many", "1.5", "-1"])
def test_a_number_of_web_processes_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], number: str
) -> None:
    # gunicorn itself ends with a traceback.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEB_CONCURRENCY", number)
    monkeypatch.setattr(sys, "argv", ["chatbot", "web"])
    with pytest.raises(SystemExit):
        main()
    assert "Settings: WEB_CONCURRENCY must be" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (redis.exceptions.ConnectionError("no"), "Error: no Redis answers where REDIS_URL says: "),
        (redis.exceptions.OutOfMemoryError("HSET chat:key"), "Error: Redis is full: raise its maxmemory"),
    ],
)
def test_a_command_that_cannot_use_redis_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cause: Exception, says: str
) -> None:
    def use_redis() -> None:
        raise StoreUnavailable("end: failed") from cause

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    done = CliRunner().invoke(StoreCommand("end", callback=use_redis))
    assert done.exit_code == 1
    assert done.output.startswith(says)
    assert len(done.output.splitlines()) == 1


def test_an_unknown_command_gets_the_list_of_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatbot", "blah"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"chatbot has no command blah\n\n{USAGE}\n"
    assert all(command in USAGE for command in FLASK_COMMANDS)


@pytest.mark.parametrize("option", ["--requests", "--tokens"])
def test_a_key_has_one_limit_a_period(option: str) -> None:
    # It is refused before any key is looked at.
    commands = key_commands(cast(Any, None), cast(Any, None))
    done = CliRunner().invoke(commands, ["create", "ada", option, "5/day", option, "6/day"])
    assert done.exit_code == 2
    assert f"{option} names a period twice" in done.output
