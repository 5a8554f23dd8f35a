"""A real Prometheus that scrapes a deployment, with the project's rules sped up."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from devtools.harness.deployment import Process, eventually
from devtools.harness.ports import free_port
from devtools.paths import ROOT

RULES = ROOT / "docs" / "monitoring" / "alerts.yml"

#: Seconds of the units in the rules.
_UNITS = {"s": 1, "m": 60, "h": 3600}


def faster(rules: str, pace: float) -> str:
    """The rules with every `for`, every range and the limits of 5 s divided by `pace`."""

    def divided(match: re.Match[str]) -> str:
        seconds = int(match[2]) * _UNITS[match[3]] / pace
        # A range must hold some scrapes for a rate.
        return f"{match[1]}{max(round(seconds), 8 if match[1] == '[' else 1)}s"

    rules = re.sub(r"(\[|for: )(\d+)([smh])", divided, rules)
    return re.sub(r"> 5$", f"> {5 / pace:g}", rules, flags=re.MULTILINE)


class Prometheus:
    """Scrapes web hosts every second within the `with`."""

    def __init__(self, folder: Path, urls: list[str], pace: float) -> None:
        binary = shutil.which("prometheus")
        if binary is None:
            raise RuntimeError("prometheus is not on PATH: apt install prometheus")
        folder.mkdir()
        (folder / "alerts.yml").write_text(faster(RULES.read_text("utf-8"), pace), "utf-8")
        targets = [url.removeprefix("http://") for url in urls]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(folder / "alerts.yml")],
            "scrape_configs": [{"job_name": "chatbot", "static_configs": [{"targets": targets}]}],
        }
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._process = Process("prometheus", command, {}, folder / "log")

    def __enter__(self) -> Self:
        self._process.start()
        eventually(self._is_ready, 30, "Prometheus is ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector that an expression evaluates to now."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).ok
        except requests.RequestException:
            return False
