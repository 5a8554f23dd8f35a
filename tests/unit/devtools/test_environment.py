"""The virtual environment of `make`: one that cannot work is refused with its cause and what to do."""

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from devtools import environment

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What `find_problem` looks at of an environment in a folder with a space."""
    folder = tmp_path / "my project" / ".venv"
    (folder / "lib" / VERSION).mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "bin" / "pip").write_text(f'#!/bin/sh\n\'\'\'exec\' "{folder}/bin/python" "$0" "$@"\n')
    return folder


def test_an_environment_that_is_as_it_was_made_is_accepted(made: Path, tmp_path: Path) -> None:
    assert environment.find_problem(made) is None
    (tmp_path / "link").symlink_to(made)
    assert environment.find_problem(tmp_path / "link") is None
    assert environment.find_problem(Path(sys.prefix)) is None


def test_a_folder_that_was_moved_or_copied_is_named(made: Path) -> None:
    moved = made.parent.rename(made.parent.with_name("elsewhere")) / ".venv"
    says = f"was made for {made}, and cannot be moved or copied: run make clean, then make again"
    assert says in str(environment.find_problem(moved))
    made.mkdir(parents=True)
    assert says in str(environment.find_problem(moved))


def test_an_environment_of_another_or_a_missing_python_is_named(made: Path) -> None:
    (made / "lib" / VERSION).rename(made / "lib" / "python3.1")
    assert f"was made by another version than {VERSION}" in str(environment.find_problem(made))
    (made / "bin" / "pip").unlink()
    assert "has no pip, as its installation was interrupted" in str(environment.find_problem(made))
    (made / "bin" / "python").unlink()
    (made / "bin" / "python").symlink_to("/usr/bin/python3.1")
    assert str(environment.find_problem(made)).endswith(
        "is gone, or its installation was interrupted: run make clean, then make again"
    )


def test_an_environment_that_cannot_be_made_is_named_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    problem = str(environment.make(tmp_path / "file" / ".venv"))
    assert problem.startswith(f"{tmp_path}/file/.venv cannot be written (Not a directory): ")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "ensurepip is missing: on Debian and Ubuntu, apt install python3-venv" in str(environment.make(tmp_path))


@pytest.mark.skipif(not hasattr(os, "ST_NOEXEC"), reason="this system does not say where it runs no programs")
def test_a_file_system_that_runs_no_programs_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    assert "runs no programs (noexec): move the project" in str(environment.find_problem(made))
