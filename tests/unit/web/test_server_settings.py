"""Invalid settings of gunicorn and Flower end the process with one line that names the setting."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from devtools.paths import BIN, ROOT

GUNICORN = ("gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:app")
FLOWER = ("celery", "-A", "celery_worker", "flower", f"--conf={ROOT / 'flowerconfig.py'}")


def failure(command: tuple[str, ...], folder: Path, **settings: str) -> str:
    """The message of the one line, in JSON, that a process writes which ends at once with an error."""
    name, *arguments = command
    clean = {k: v for k, v in os.environ.items() if k not in ("WEB_CONCURRENCY", "HOST", "PORT", "LOG_FORMAT")}
    ended = subprocess.run(
        [str(BIN / name), *arguments],
        env={**clean, "PYTHONPATH": str(ROOT), **settings},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    (line,) = ended.stderr.splitlines()
    return str(json.loads(line)["message"])


def test_gunicorn_takes_its_settings_from_env_files_too(tmp_path: Path) -> None:
    # gunicorn reads the variable itself, but before the file is read.
    (tmp_path / ".env").write_text("WEB_CONCURRENCY=many\n")
    assert failure(GUNICORN, tmp_path) == "Settings: WEB_CONCURRENCY must be a whole number, not 'many'"


def test_flower_names_an_invalid_setting(tmp_path: Path) -> None:
    # Flower reads it itself, too.
    assert failure(FLOWER, tmp_path, FLOWER_PORT="x") == "Settings: FLOWER_PORT must be a whole number, not 'x'"
