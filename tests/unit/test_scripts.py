"""Arguments reach a script by name."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from chatbot.store.keys import SessionKeys
from chatbot.store.script_texts import ARGUMENTS, ordered, source, source_lines


def test_arguments_are_ordered_by_name() -> None:
    arguments = {"longest_wait_ms": 5, "limit": 1, "grace_ms": 3, "first_wait_ms": 4, "lease_ms": 2}
    assert ordered("sweep", {**arguments, "interval_ms": 0, "others": "", "settled": 1}) == [1, 0, 2, 3, 4, 5, "", 1]


def test_every_script_has_its_arguments_listed() -> None:
    found = {path.name.removesuffix(".lua") for path in (files("chatbot.sessions") / "scripts").iterdir()}
    assert {name for name in found if not name.startswith("_")} == set(ARGUMENTS), "list it in store/script_texts.py"


@pytest.mark.parametrize("arguments", [{}, {"ttl": 1}, {"ttl_ms": 1, "more": 2}])
def test_a_missing_or_unknown_argument_is_an_error(arguments: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="the script create takes content, ttl_ms"):
        ordered("create", arguments)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_script_uses_every_argument_and_none_hides_a_key(name: str) -> None:
    assert not set(ARGUMENTS[name]) & set(SessionKeys._fields)
    head = source_lines(name)[0].text
    assert {f"ARGV[{number}]" for number in range(1, len(ARGUMENTS[name]) + 1)} <= set(re.findall(r"\w+\[\d+\]", head))


def test_a_script_has_the_functions_that_it_uses_and_no_others() -> None:
    assert [line.text for line in source_lines("take") if line.text.startswith("local function ")] == [
        "local function take_tokens(share)"
    ]
    for name in ARGUMENTS:
        text = source(name)
        for function in re.findall(r"^local function (\w+)", text, re.MULTILINE):
            assert len(re.findall(rf"\b{function}\b", text)) > 1, (name, function)
