"""`model-check` with a bot of one's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from chatbot.bot import Context, Message
from chatbot.config import Settings
from chatbot.worker.model_check import check

Check = Callable[..., tuple[bool, str]]


def reply(conversation: list[Message], context: Context) -> Iterator[str]:
    assert context.session_start.endswith("Z")
    yield "You said: "
    yield conversation[-1].text


def fail(_: list[Message]) -> str:
    raise ValueError("a detail")


def hang(_: list[Message], context: Context) -> str:
    context.wait(30)
    return ""


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Check:
    """Checks one of the functions above; returns whether it is fine, and the lines."""
    module = ModuleType("bots_to_check")
    module.__dict__.update(reply=reply, fail=fail, hang=hang)
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
        ("hang", "NO REPLY: no text arrived within MODEL_TIMEOUT, 0.05 s"),
    ],
)
def test_a_bot_that_gives_no_reply_is_not(checked: Check, name: str, verdict: str) -> None:
    fine, lines = checked(name, MODEL_TIMEOUT="0.05", MODEL_LOADING_TIMEOUT="0.05")
    assert not fine
    assert f"verdict:   {verdict}" in lines
