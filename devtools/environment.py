"""``python environment.py FOLDER``: makes the virtual environment FOLDER, or checks the one that is there.

Run as a file, by any Python that is new enough, before a package is installed. Exit status 1, with a sentence that says
what to do, for an environment that cannot be made or cannot work.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

_ANEW = "run make clean, then make again"


def find_problem(folder: Path) -> str | None:
    """Return why the environment in ``folder`` cannot work, and what to do; None if it can."""
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0):
        return f"{folder} is on a file system that runs no programs (noexec): move the project to another one"
    if not os.access(folder / "bin" / "python", os.X_OK):
        return f"The Python of {folder} is gone, or its installation was interrupted: {_ANEW}"
    if not (folder / "bin" / "pip").exists():
        return f"{folder} has no pip, as its installation was interrupted: {_ANEW}"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (folder / "lib" / version).is_dir():
        return f"{folder} was made by another version than {version}, which its Python is now: {_ANEW}"
    # Programs in it begin with the path of their Python.
    made_for = re.search(r"(/[^\n\"]+)/bin/python", (folder / "bin" / "pip").read_text("utf-8", "replace"))
    if made_for and not (os.path.exists(made_for[1]) and os.path.samefile(made_for[1], folder)):
        return f"{folder} was made for {made_for[1]}, and cannot be moved or copied: {_ANEW}"
    return None


def make(folder: Path) -> str | None:
    """Make an environment with pip in ``folder``. Return why it could not be made, and what to do; None if it could."""
    if importlib.util.find_spec("ensurepip") is None:
        return (
            f"{sys.executable} cannot make virtual environments, as its module ensurepip is missing: on Debian and "
            "Ubuntu, apt install python3-venv; or name another Python, make PYTHON=python3.12 ..."
        )
    try:
        venv.create(folder, with_pip=True, symlinks=True)
    except OSError as error:
        where = error.filename or folder
        return (
            f"{where} cannot be written ({error.strerror}): put the project where this user may write, with 500 MB free"
        )
    except subprocess.CalledProcessError as error:
        lines = (error.output or b"").decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {error.returncode}")
        return f"pip could not be installed into {folder}: {said}"
    return find_problem(folder)


def main() -> int:
    """Check or make. Returns the exit status."""
    folder = Path(sys.argv[1]).absolute()
    if folder.exists():
        problem = find_problem(folder)
    else:
        print(f"Creating the virtual environment in {sys.argv[1]}", flush=True)
        problem = "interrupted"
        try:
            problem = make(folder)
        except KeyboardInterrupt:
            return 130
        finally:
            if problem:
                shutil.rmtree(folder, ignore_errors=True)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
