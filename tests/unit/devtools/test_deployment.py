"""The waiting that every test of processes rests on."""

from __future__ import annotations

import pytest

from devtools.harness.deployment import eventually


def test_an_element_that_is_still_missing_is_waited_for() -> None:
    frames: list[str] = []

    def last() -> str:
        try:
            return frames[-1]
        finally:
            frames.append("first")

    assert eventually(last) == "first"


def test_a_wait_for_what_never_comes_names_it_and_what_was_missing() -> None:
    frames: list[str] = []
    with pytest.raises(AssertionError, match="the first frame") as raised:
        eventually(lambda: frames[0], timeout=0, what="the first frame")
    assert isinstance(raised.value.__cause__, IndexError)
