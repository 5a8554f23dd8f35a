"""`make lint` finds errors in Lua scripts, and takes no shared function for an error that only some scripts use."""

from __future__ import annotations

import os
import shutil

import pytest

from chatbot.store.script_texts import Definition, Line
from devtools.lint_lua import findings


@pytest.fixture(autouse=True)
def luacheck() -> None:
    if shutil.which("luacheck") is None:
        if os.environ.get("CI"):
            pytest.fail("no luacheck: .ci/run is to install it")
        pytest.skip("no luacheck on this machine (Debian: apt install lua-check)")


def found(shared: str, **scripts: str) -> list[str]:
    """The findings in scripts that begin with a generated line, and with the part `_shared` if they use it."""
    part = [Line(text, "_shared", number) for number, text in enumerate(shared.splitlines(), 1)]
    complete = {
        name: [
            Line("local key = KEYS[1]"),
            *(part if USES in text else ()),
            *(Line(line, name, number) for number, line in enumerate(text.splitlines(), 1)),
        ]
        for name, text in scripts.items()
    }
    return findings(complete, [Definition(frozenset({USES}), tuple(part))])


USES = "put"
SHARED = "-- Stores it.\nlocal function put(value)\n  redis.call('SET', key, value)\nend\n"


def test_a_function_that_one_script_uses_is_not_unused() -> None:
    assert found(SHARED, one="put(ARGV[1])\n", two="return key\n") == []


def test_a_function_that_no_script_uses_is_unused() -> None:
    assert found(SHARED, one="return key\n", two="return key\n") == [
        "_shared.lua:2:1: unused in every script: local function put(value)"
    ]


def test_an_undefined_name_is_found_where_it_stands() -> None:
    assert found(SHARED, one="put(1)\nputt(2)\n") == ["one.lua:2:1: (W113) accessing undefined variable 'putt'"]
    assert found(SHARED.replace("value)\nend", "valu)\nend"), one="put(1)\n", two="put(2)\n") == [
        "_shared.lua:2:20: (W212) unused argument 'value'",
        "_shared.lua:3:26: (W113) accessing undefined variable 'valu'",
    ]


def test_what_redis_does_not_offer_is_undefined() -> None:
    assert len(found(SHARED, zero="put(1)\n", one="print(key)\n", two="return os.time() + key\n")) == 2
