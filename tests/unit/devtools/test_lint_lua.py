"""`make lint` finds errors in Lua scripts, and takes no shared function for an error that only some scripts use."""

from __future__ import annotations

import os
import shutil

import pytest

from devtools.lint_lua import findings


@pytest.fixture(autouse=True)
def luacheck() -> None:
    if shutil.which("luacheck") is None:
        if os.environ.get("CI"):
            pytest.fail("no luacheck: .ci/run is to install it")
        pytest.skip("no luacheck on this machine (Debian: apt install lua-check)")


def found(shared: str, **scripts: str) -> list[str]:
    """The findings in scripts that begin with a generated line and the part `_shared`."""
    complete = {name: f"local key = KEYS[1]\n{shared}{text}" for name, text in scripts.items()}
    return findings(complete, {"_shared": shared, **scripts})


SHARED = "local function put(value)\n  redis.call('SET', key, value)\nend\n"


def test_a_function_that_one_script_uses_is_not_unused() -> None:
    assert found(SHARED, one="put(ARGV[1])\n", two="return key\n") == []


def test_a_function_that_no_script_uses_is_unused() -> None:
    assert found(SHARED, one="return key\n", two="return key\n") == [
        "_shared.lua:1:1: unused in every script: local function put(value)"
    ]


def test_an_undefined_name_is_found_where_it_stands() -> None:
    assert found(SHARED, one="put(1)\nputt(2)\n") == ["one.lua:2:1: (W113) accessing undefined variable 'putt'"]


def test_what_redis_does_not_offer_is_undefined() -> None:
    assert len(found("-- shared\n", one="print(key)\n", two="return os.time() + key\n")) == 2


def test_a_shared_function_may_use_names_of_the_scripts_that_use_it() -> None:
    shared = "local function renew()\n  redis.call('PEXPIRE', key, ttl)\nend\n"
    one = "local ttl = ARGV[1]\n"
    complete = {"one": one + "local key = KEYS[1]\n" + shared + "renew()\n", "two": shared + "return 1\n"}
    parts = {"_shared": shared, "one": "renew()\n", "two": "return 1\n"}
    assert findings(complete, parts) == []
    complete["two"] = shared + "renew()\n"
    assert {line.partition(" ")[0] for line in findings(complete, {**parts, "two": "renew()\n"})} == {
        "_shared.lua:2:25:",
        "_shared.lua:2:30:",
    }
