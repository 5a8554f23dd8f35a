"""Runs luacheck on the Lua scripts, for `make lint`: on each as Redis gets it, with the shared parts before it.

A shared function is checked in the scripts that use it, for its names may be theirs. It is unused if no script uses it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from chatbot.store.script_texts import source

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(str(files("chatbot.sessions") / "scripts"))
_REPORT = re.compile(r".*?([^/]+)\.lua:(\d+):(\d+): (.*)")
#: How luacheck reports a variable that is not used, and how a shared function begins; it ends with a line `end`.
_UNUSED, _FUNCTION = "(W2", "local function "


class Report(NamedTuple):
    """What luacheck reports of a script."""

    script: str
    line: int
    column: int
    text: str

    def is_unused_function(self, lines: dict[str, list[str]]) -> bool:
        return self.text.startswith("(W211)") and lines[self.script][self.line - 1].startswith(_FUNCTION)


def main() -> int:
    """Prints the findings; exit status 1 if there are any."""
    if shutil.which("luacheck") is None:
        print("luacheck is not installed: Lua is not checked (Debian: apt install lua-check)")
        return 0
    parts = {path.stem: path.read_text("utf-8") for path in sorted(SCRIPTS.glob("*.lua"))}
    found = findings({name: source(name) for name in parts if not name.startswith("_")}, parts)
    print(*found, f"luacheck: {len(parts)} Lua files, {len(found)} findings", sep="\n")
    return 1 if found else 0


def findings(scripts: dict[str, str], parts: dict[str, str]) -> list[str]:
    """Findings as `part.lua:line:column: text`. `scripts` are complete, `parts` are the files that they consist of."""
    lines = {name: text.split("\n") for name, text in scripts.items()}
    origins = {name: dict(_origins(text, parts)) for name, text in scripts.items()}
    uses = Counter(origin for script in origins.values() for origin in script.values())
    unused: Counter[tuple[str, int]] = Counter()
    while True:
        reports = [report for report in _luacheck(lines) if report.line in origins[report.script]]
        functions = [report for report in reports if report.is_unused_function(lines)]
        if not functions:
            break
        for script, first, *_ in functions:
            for number in range(first, lines[script].index("end", first) + 2):
                unused[origins[script][number]] += 1
                lines[script][number - 1] = ""
    found = Counter((origins[report.script][report.line], report.column, report.text) for report in reports)
    result = [
        (*origin, column, text)
        for (origin, column, text), count in found.items()
        if not text.startswith(_UNUSED) or count == uses[origin] - unused[origin]
    ]
    for (part, line), count in unused.items():
        text = parts[part].split("\n")[line - 1]
        if count == uses[part, line] and text.startswith(_FUNCTION):
            result.append((part, line, 1, f"unused in every script: {text}"))
    return [f"{part}.lua:{line}:{column}: {text}" for part, line, column, text in sorted(result)]


def _origins(text: str, parts: dict[str, str]) -> Iterator[tuple[int, tuple[str, int]]]:
    """For each line of `text` that comes from a part: its number, and the part with the number there."""
    for name, part in parts.items():
        before, found, _ = text.partition(part)
        if found:
            first = before.count("\n") + 1
            yield from ((first + number, (name, number + 1)) for number in range(part.count("\n")))


def _luacheck(scripts: dict[str, list[str]]) -> list[Report]:
    """Raises `RuntimeError` if luacheck fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in scripts.items():
            Path(folder, f"{name}.lua").write_text("\n".join(lines), "utf-8")
        command = ["luacheck", "--config", str(ROOT / ".luacheckrc"), "--formatter", "plain", "--codes", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    reports = [_REPORT.fullmatch(line) for line in done.stdout.splitlines()]
    if done.returncode > 2 or None in reports:
        raise RuntimeError(f"luacheck failed: {done.stdout}{done.stderr}")
    return [Report(report[1], int(report[2]), int(report[3]), report[4]) for report in reports if report]


if __name__ == "__main__":
    sys.exit(main())
