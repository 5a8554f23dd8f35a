"""Writes `.env.example` and docs/settings.md from the declarations of the settings in chatbot/config/settings."""

import argparse
import dataclasses
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from chatbot.config.reader import GROUPS
from devtools.local.plan import LocalSettings
from devtools.paths import ROOT

WIDTH = 120


def env_example() -> str:
    """Every setting as a comment of a file `.env`."""
    lines = [
        "# Every setting with its default. Copy to .env and uncomment what you change; the environment wins over .env."
    ]
    for heading, fields in _groups():
        lines += ["", f"# -- {heading} --"]
        for field in fields:
            lines += textwrap.wrap(
                field.metadata["description"],
                WIDTH,
                initial_indent="# ",
                subsequent_indent="# ",
                break_on_hyphens=False,
            )
            lines.append(f"# {field.metadata['variable']}={default_text(field)}")
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting in tables, as a page of the documentation."""
    lines = [
        "# Settings",
        "",
        "Settings come from the environment or from a file `.env` in the working folder; the environment wins.",
        "An empty value counts as not set. An invalid value ends the process with one line that names the variable.",
        "",
        "Traces are turned on by the variables of OpenTelemetry: see [operations.md](operations.md#traces).",
        "",
        "*`make settings` writes this page and [.env.example](../.env.example) from chatbot/config/settings.*",
    ]
    for heading, fields in _groups():
        lines += ["", f"## {heading}", "", "| variable | default | meaning |", "|---|---|---|"]
        for field in fields:
            default = default_text(field)
            meaning = field.metadata["description"].replace("|", "\\|").replace("*", "\\*")
            lines.append(f"| `{field.metadata['variable']}` | {f'`{default}`' if default else ''} | {meaning} |")
    return "\n".join(lines) + "\n"


def default_text(field: dataclasses.Field[Any]) -> str:
    """A setting's default as it is written in `.env`; empty when the setting has none."""
    shown: str | None = field.metadata["shown"]
    if shown is not None:
        return shown
    if field.default is None:
        return ""
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def _groups() -> Iterator[tuple[str, tuple[dataclasses.Field[Any], ...]]]:
    for group in (*GROUPS.values(), LocalSettings):
        yield group.__doc__ or "", dataclasses.fields(group)


GENERATED = {".env.example": env_example, "docs/settings.md": settings_page}


def main() -> int:
    """Writes the files."""
    argparse.ArgumentParser(prog="make settings", description=__doc__).parse_args()
    for path, generate in GENERATED.items():
        (ROOT / path).write_text(generate(), "utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
