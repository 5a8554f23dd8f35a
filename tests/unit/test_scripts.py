"""Arguments reach a script by name."""

from __future__ import annotations

import re

import pytest

from chatbot.store.keys import SessionKeys
from chatbot.store.script_texts import ARGUMENTS, ordered, source


def test_arguments_are_ordered_by_name() -> None:
    arguments = {"longest_wait_ms": 5, "limit": 1, "grace_ms": 3, "first_wait_ms": 4, "lease_ms": 2}
    assert ordered("sweep", {**arguments, "interval_ms": 0, "others": ""}) == [1, 0, 2, 3, 4, 5, ""]


@pytest.mark.parametrize("arguments", [{}, {"ttl": 1}, {"ttl_ms": 1, "more": 2}])
def test_a_missing_or_unknown_argument_is_an_error(arguments: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="the script create takes content, ttl_ms"):
        ordered("create", arguments)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_script_reads_every_argument_and_none_hides_a_key(name: str) -> None:
    assert not set(ARGUMENTS[name]) & set(SessionKeys._fields)
    prelude, _, text = source(name).partition("-- Stands before every script")
    assert text
    for argument in ARGUMENTS[name]:
        assert argument in prelude
        assert re.search(rf"\b{argument}\b", text), argument
