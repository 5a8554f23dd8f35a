"""The files for Kubernetes and systemd, as far as they can be checked without either."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from opentelemetry.sdk import environment_variables

from chatbot.config import Settings
from chatbot.web.shared_metrics import SharedMetrics
from devtools.paths import BIN, ROOT
from devtools.settings_docs import env_example

KUBERNETES = ROOT / "deploy" / "kubernetes"
SYSTEMD = ROOT / "deploy" / "systemd"
#: The version of Kubernetes whose schemas are asked.
VERSION = "1.36"
#: Kinds whose schemas are not Kubernetes' own.
FOREIGN = ("ScaledObject", "Kustomization", "Component")
VARIABLES = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", env_example(), re.MULTILINE))


def resources() -> Iterator[dict[str, Any]]:
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text("utf-8"))


RESOURCES = [resource for resource in resources() if resource["kind"] not in FOREIGN]
PODS = {r["metadata"]["name"]: r["spec"]["template"]["spec"] for r in RESOURCES if "template" in r["spec"]}


def of(kind: str, name: str) -> dict[str, Any]:
    return next(r for r in resources() if r["kind"] == kind and r["metadata"]["name"] == name)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda r: f"{r['kind']}-{r['metadata']['name']}")
def test_every_resource_is_valid(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, VERSION, strict=True)


def test_a_resource_that_is_not_valid_is_found() -> None:
    resource = of("Deployment", "web")
    resource["spec"]["replica"] = resource["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resource, VERSION, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_every_container_runs_with_few_rights(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert container.get("livenessProbe")


def test_every_variable_is_a_setting() -> None:
    lines = (KUBERNETES / "base" / "settings.env").read_text("utf-8").splitlines()
    named = {line.lstrip("# ").split("=")[0] for line in lines if re.match(r"(# )?[A-Z_]+=", line)}
    named |= {
        entry["name"] for name in ("web", "worker", "flower") for entry in PODS[name]["containers"][0].get("env", ())
    }
    text = (KUBERNETES / "README.md").read_text("utf-8") + (SYSTEMD / "README.md").read_text("utf-8")
    named |= set(re.findall(r"--from-literal=([A-Z_]+)", text))
    assert len(named) > 8
    assert {name for name in named if not name.startswith("OTEL_")} <= VARIABLES
    assert named - VARIABLES <= set(vars(environment_variables))
    set_here = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = Settings.from_env({**set_here, "HOST": "0.0.0.0", "REDIS_PASSWORD": "p"})
    assert settings.redis.url == "redis://:p@redis:6379/0"


def test_workers_are_scaled_by_metrics_that_exist() -> None:
    (scaled,) = (r for r in resources() if r["kind"] == "ScaledObject")
    assert of("Deployment", scaled["spec"]["scaleTargetRef"]["name"])
    source = (ROOT / f"{SharedMetrics.__module__.replace('.', '/')}.py").read_text("utf-8")
    for trigger in scaled["spec"]["triggers"]:
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        names = re.findall(r"chatbot_\w+", trigger["metadata"]["query"])
        assert names
        assert all(f'"{name}"' in source for name in names)


def test_a_worker_has_the_time_to_hand_back_its_replies() -> None:
    least = Settings().worker.shutdown_timeout + 5
    assert PODS["worker"]["terminationGracePeriodSeconds"] >= least
    assert int(unit("chatbot-worker@")["Service"]["TimeoutStopSec"]) >= least


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SYSTEMD / f"{name}.service", "utf-8")
    return parser


@pytest.mark.parametrize("name", ["chatbot-web", "chatbot-worker@", "chatbot-flower"])
def test_every_unit_starts_what_exists_and_starts_it_again(name: str) -> None:
    service = unit(name)["Service"]
    program = Path(service["ExecStart"].split()[0])
    assert str(program).startswith(f"{service['WorkingDirectory']}/.venv/bin/")
    assert (BIN / program.name).exists()
    assert service["Restart"] == "always"
    assert service["User"] == "chatbot"
    assert service["NoNewPrivileges"] == "true"
