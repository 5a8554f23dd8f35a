"""What is refused on the command line before anything is started."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

import pytest
from click.testing import CliRunner

from chatbot.entry.commands import FLASK_COMMANDS, USAGE
from chatbot.web.key_commands import key_commands


@pytest.mark.parametrize("command", ["web", "worker", "model-check"])
def test_a_bot_without_its_function_is_refused_in_one_line(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatbot", command, "bot"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", "BOT is module:function, such as bot:reply, not bot\n")


def test_an_unknown_command_gets_the_list_of_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatbot", "blah"], capture_output=True, text=True, timeout=60, check=False
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
