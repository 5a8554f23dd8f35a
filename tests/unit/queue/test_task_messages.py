"""Checks of what the broker delivers."""

from __future__ import annotations

import pytest
from kombu.utils.json import loads

from chatbot.queue.task_messages import is_json


@pytest.mark.parametrize(
    "element",
    [
        *("", "x", "[]", "{}", "1", '{"a": "\\u00e9"}', "NaN", "[" * 100_000),
        '{"__type__": "datetime", "__value__": "2026-11-27T10:00:00"}',
        '{"__type__": "datetime", "__value__": "no date"}',
        '[{"\\u005f_type__": "no type", "__value__": 1}]',
        '{"__type__": 1}',
    ],
)
def test_an_element_is_json_if_kombu_can_parse_it(element: str) -> None:
    def parsable(value: str | bytes) -> bool:
        try:
            loads(value)
        except Exception:  # noqa: BLE001 - its decoders raise what they like
            return False
        return True

    assert is_json(element) is parsable(element)
    assert is_json(element.encode()) is parsable(element.encode())
    assert is_json(element.encode("utf-16")) is False
