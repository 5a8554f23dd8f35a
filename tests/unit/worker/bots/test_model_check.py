"""`model-check` with a bot of one's own, and where its settings come from."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from chatbot.bot import Context, Message
from chatbot.config import ModelSettings, Settings
from chatbot.config.reader import load_env_file
from chatbot.worker import model_check
from chatbot.worker.model_check import check, sources

Check = Callable[..., tuple[bool, str]]


def reply(conversation: list[Message], context: Context) -> Iterator[str]:
    assert context.session_start.endswith("Z")
    yield "You said: "
    yield conversation[-1].text


def fail(_: list[Message]) -> str:
    raise ValueError("a detail")


def stall(_: list[Message], context: Context) -> Iterator[str]:
    yield "You"
    context.wait(30)


def hang(_: list[Message], context: Context) -> str:
    context.wait(30)
    return ""


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Check:
    """Checks one of the functions above; returns whether it is fine, and the lines."""
    module = ModuleType("bots_to_check")
    module.__dict__.update(reply=reply, fail=fail, stall=stall, hang=hang)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def checked(name: str, **environ: str) -> tuple[bool, str]:
        lines: list[str] = []
        settings = Settings.from_env({"MODEL_CALLABLE": f"bots_to_check:{name}", **environ})
        return check(settings, lines.append), "\n".join(lines)

    return checked


def test_a_bot_that_replies_is_ok(checked: Check) -> None:
    fine, lines = checked("reply")
    assert fine
    assert lines.startswith("callable:  bots_to_check:reply\nreply:     'You said: Hello! Say in")
    assert "\nstreamed:  yes, 2 chunks\n" in lines
    assert lines.endswith("verdict:   OK")


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("fail", "NO REPLY: callable: bots_to_check:fail raised ValueError"),
        ("nothing", "NO REPLY: MODEL_CALLABLE cannot be used: "),
        ("stall", "NO REPLY: the reply did not end within MODEL_TIMEOUT, 0.05 s"),
        ("hang", "NO REPLY: no text arrived within MODEL_LOADING_TIMEOUT, 0.05 s"),
    ],
)
def test_a_bot_that_gives_no_reply_is_not(checked: Check, name: str, verdict: str) -> None:
    fine, lines = checked(name, MODEL_TIMEOUT="0.05", MODEL_LOADING_TIMEOUT="0.05")
    assert not fine
    assert f"verdict:   {verdict}" in lines


def test_the_first_line_says_where_the_settings_come_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    # `load_env_file` adds to the environment.
    monkeypatch.setattr(os, "environ", {})
    assert sources().startswith("settings:  the defaults, as neither the environment nor .env in this folder names a ")
    (tmp_path / ".env").write_text("MODEL_NAME=gpt-k\nMODEL_URL=http://127.0.0.1:8/v1\n")
    os.environ["MODEL_URL"] = ModelSettings.servers[0].url
    load_env_file()
    assert sources() == "settings:  MODEL_URL from the environment, MODEL_NAME from .env"


def test_the_model_of_make_run_is_named_where_no_model_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "_listed_models", lambda *_: ["small"])
    (server,), named = ModelSettings.servers, Settings.from_env({"MODEL_NAME": "gpt-k"})
    assert model_check._model(server, Settings()).startswith("small, as the server lists; ")
    assert model_check._model(server, named) == "gpt-k (MODEL_NAME), which the server does not list; it lists small"
