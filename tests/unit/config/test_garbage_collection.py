"""The garbage collector of a web process."""

from __future__ import annotations

import gc

from chatbot.config import garbage_collection


def test_what_exists_is_exempt_and_new_objects_are_collected_seldom() -> None:
    before = gc.get_threshold()
    try:
        garbage_collection.tune()
        assert gc.get_threshold()[0] == 10_000
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_a_trim_collects_reference_cycles() -> None:
    class Node:
        alive = 0

        def __init__(self) -> None:
            self.own = self
            Node.alive += 1

        def __del__(self) -> None:
            Node.alive -= 1

    Node()
    garbage_collection.trim()
    assert Node.alive == 0
