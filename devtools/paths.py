"""Paths of this checkout and of the Python installation that runs it."""

import sys
from pathlib import Path

#: The checkout; every process that a tool starts has it as working folder.
ROOT = Path(__file__).resolve().parents[1]
#: Where this environment's commands are: gunicorn, celery, flask.
BIN = Path(sys.executable).parent
#: Runs a command that ends with its parent: nothing is left behind by a test run or a `make run` that is killed.
PARENT_WATCH = ROOT / "devtools" / "local" / "parent_watch.py"
