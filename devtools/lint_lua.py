"""Runs luacheck on the Lua scripts, for `make lint`: on each as Redis gets it, with the functions that it uses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from chatbot.store.script_texts import ARGUMENTS, Definition, Line, shared_definitions, source_lines

ROOT = Path(__file__).resolve().parents[1]
_REPORT = re.compile(r".*?([^/]+)\.lua:(\d+):(\d+): (.*)")


class Report(NamedTuple):
    """What luacheck reports of a script."""

    script: str
    line: int
    column: int
    text: str


def main() -> int:
    """Prints the findings; exit status 1 if there are any."""
    if shutil.which("luacheck") is None:
        print("luacheck is not installed: Lua is not checked (Debian: apt install lua-check)")
        return 0
    found = findings({name: source_lines(name) for name in ARGUMENTS}, shared_definitions())
    print(*found, f"luacheck: {len(ARGUMENTS)} Lua scripts, {len(found)} findings", sep="\n")
    return 1 if found else 0


def findings(scripts: Mapping[str, Sequence[Line]], shared: Sequence[Definition]) -> list[str]:
    """Findings as `file.lua:line:column: text`, and the `shared` definitions that no script has."""
    found = set()
    for report in _luacheck(scripts):
        line = scripts[report.script][report.line - 1]
        # A generated line declares several names at once, also those that a script does not need.
        if line.part:
            found.add((line.part, line.number, report.column, report.text))
    used = {line for lines in scripts.values() for line in lines}
    for definition in shared:
        first = next(line for line in definition.lines if line.text.startswith("local "))
        if first not in used:
            found.add((first.part, first.number, 1, f"unused in every script: {first.text}"))
    return [f"{part}.lua:{number}:{column}: {text}" for part, number, column, text in sorted(found)]


def _luacheck(scripts: Mapping[str, Sequence[Line]]) -> list[Report]:
    """Raises `RuntimeError` if luacheck fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in scripts.items():
            Path(folder, f"{name}.lua").write_text("\n".join(line.text for line in lines), "utf-8")
        command = ["luacheck", "--config", str(ROOT / ".luacheckrc"), "--formatter", "plain", "--codes", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    reports = [_REPORT.fullmatch(line) for line in done.stdout.splitlines()]
    if done.returncode > 2 or None in reports:
        raise RuntimeError(f"luacheck failed: {done.stdout}{done.stderr}")
    return [Report(report[1], int(report[2]), int(report[3]), report[4]) for report in reports if report]


if __name__ == "__main__":
    sys.exit(main())
