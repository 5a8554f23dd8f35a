"""How the function that MODEL_CALLABLE names is found, and what is said of one that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chatbot.errors import ConfigurationError
from chatbot.worker.bots.loader import load_callable, takes_context

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module into the working folder, and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    names = (f"written_{number}" for number in range(9))

    def write(source: str) -> str:
        name = next(names)
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_function_in_the_working_folder_is_found_and_so_is_what_it_imports_when_it_is_called(write: Write) -> None:
    helper = write("TEXT = 'from the helper'")
    module = write(f"def reply(conversation):\n    import {helper}\n    return {helper}.TEXT")
    assert load_callable(f"{module}:reply")([]) == "from the helper"


def test_an_attribute_of_an_attribute_may_be_named(write: Write) -> None:
    module = write("class Bot:\n    def reply(self, conversation):\n        return 'hi'\nbot = Bot()")
    assert load_callable(f"{module}:bot.reply")([]) == "hi"


@pytest.mark.parametrize(
    ("source", "attribute", "problem"),
    [
        ("def reply(c): ...", "replay", r"the module \S+ \(\S+\.py\) has no replay: did you mean reply\?$"),
        ("reply = 'text'", "reply", "reply is not a function"),
        ("class Reply: ...", "Reply", "Reply is a class: name a function"),
        ("def reply(): ...", "reply", "must take one argument, the conversation, or two"),
        ("def reply(a, b, c): ...", "reply", "must take one argument, the conversation, or two"),
        ("def reply(a, *, model): ...", "reply", "must take one argument, the conversation, or two"),
        ("\nimport nothere", "reply", r"ModuleNotFoundError: No module named 'nothere' \(\S+, line 2\)$"),
        ("def f():\n    return {}['key']\nf()", "reply", r"KeyError: 'key' \(\S+, line 2\)$"),
        ("x = (", "reply", r"SyntaxError: .* \(\S+, line 1\)$"),
        ("raise SystemExit('no')", "reply", "SystemExit: no"),
    ],
)
def test_a_function_that_cannot_be_used_is_named_in_one_line(
    write: Write, source: str, attribute: str, problem: str
) -> None:
    module = write(source)
    with pytest.raises(ConfigurationError, match=problem) as refused:
        load_callable(f"{module}:{attribute}")
    assert str(refused.value).startswith("MODEL_CALLABLE cannot be used: ")
    assert "\n" not in str(refused.value)


def test_a_module_that_is_not_there_and_one_with_the_name_of_this_program_are_named(write: Write) -> None:
    folder = Path.cwd()
    for name in ("nowhere", "nowhere.at_all"):
        with pytest.raises(ConfigurationError, match=f"the module nowhere is neither in {folder} nor installed"):
            load_callable(f"{name}:reply")
    (folder / "chatbot.py").write_text("def reply(conversation): ...")
    with pytest.raises(ConfigurationError, match="give your module another"):
        load_callable("chatbot:reply")


def both(conversation: Any, context: Any) -> None: ...
def optional(conversation: Any, context: Any = None) -> None: ...
def starred(*arguments: Any) -> None: ...
def one(conversation: Any) -> None: ...
def other(conversation: Any, temperature: float = 0.5) -> None: ...


@pytest.mark.parametrize(
    ("bot", "expected"),
    [(both, True), (optional, True), (starred, True), (one, False), (other, False), (SimpleNamespace, False)],
)
def test_the_context_is_passed_to_functions_that_take_it(bot: Any, expected: bool) -> None:
    assert takes_context(bot, "bot") is expected
