"""The folder of shared metrics: locked while its gunicorn lives, and removed after it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict

from chatbot.web import metrics_folder
from chatbot.web.metrics import WebMetrics
from devtools.paths import ROOT

#: Creates a folder, reports it, and ends after a line of input.
OWNER = "from chatbot.web import metrics_folder as m; m.create(); import os; print(os.environ[m.VARIABLE]); input()"


def test_a_folder_stays_while_its_owner_lives_and_is_removed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert folder.parent == tmp_path
        os.utime(folder, (0, 0))
        metrics_folder.remove_abandoned()
        assert folder.exists()
        owner.kill()
        owner.wait()
    metrics_folder.remove_abandoned()
    assert not folder.exists()


def test_a_new_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    new = tmp_path / "chatbot-metrics-new"
    new.mkdir()
    metrics_folder.remove_abandoned()
    assert new.exists()


def test_gunicorns_own_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "chatbot-metrics-own"
    own.mkdir()
    (own / "counter_1.db").touch()
    monkeypatch.setenv(metrics_folder.VARIABLE, str(own))
    metrics_folder.remove()
    assert not own.exists()


def test_a_scrape_waits_for_a_process_that_has_just_created_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(metrics_folder.VARIABLE, str(tmp_path))
    file = tmp_path / "counter_1.db"
    file.touch()
    read = MmapedDict.read_all_values_from_file

    def read_while_empty(name: str) -> object:
        try:
            return read(name)  # type: ignore[no-untyped-call]
        finally:
            os.truncate(file, 1 << 16)

    monkeypatch.setattr(MmapedDict, "read_all_values_from_file", read_while_empty)
    assert WebMetrics().exposition(CollectorRegistry()) == b""
    assert file.stat().st_size
