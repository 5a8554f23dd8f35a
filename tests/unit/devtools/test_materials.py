"""What the image and the page are made of: the bill of materials, digests, and an audit that cannot ask."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from devtools import digests, sbom
from devtools.paths import ROOT

DIGEST = f"sha256:{'0123456789abcdef' * 4}"


def test_the_bill_of_materials_names_all_that_is_pinned() -> None:
    document = json.loads(sbom.SBOM.read_text("utf-8"))
    listed = {component["bom-ref"].lower() for component in document["components"]}
    packages = {f"pkg:pypi/{pin.replace('==', '@').lower()}" for pin, _ in sbom.locked_packages()}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    libraries = {
        f"pkg:npm/{name.replace('highlightjs-', '%40highlightjs/')}@{version}"
        for name, version in re.findall(
            r"^(?:MARKED|PURIFY|KATEX|HIGHLIGHT) := ([\w-]+)-(\S+)$", makefile, re.MULTILINE
        )
    }
    assert len(libraries) == 4
    # Every file that the page loads from there belongs to one of them.
    scripts = [file["name"] for library in document["components"] for file in library.get("components", ())]
    assert sorted(scripts) == sorted(str(path.relative_to(ROOT)) for path in sbom.VENDOR.glob("*.js"))
    images = {f"oci:{image.partition('@')[0].rpartition(':')[0]}" for image in digests.images()}
    assert listed == packages | libraries | images, "run `make sbom`"
    versions = {component["name"]: component["version"] for component in document["components"]}
    for image in digests.images():
        name, _, version = image.partition(":")
        assert versions[name] == version, "run `make sbom`"
    python = [component for component in document["components"] if component["bom-ref"].startswith("pkg:pypi/")]
    assert all(component["externalReferences"][0]["hashes"] for component in python)
    # Packages of other systems are in the lock file, but not in the image.
    assert "pkg:pypi/celery@" in " ".join(listed)
    assert "async-timeout" in sbom.LOCK.read_text("utf-8")
    assert "async-timeout" not in versions


def test_all_images_are_found_and_pinned_where_they_stand(tmp_path: Path) -> None:
    for name in digests.REFERENCES:
        shutil.copy(digests.DOCKER / name, tmp_path)
    before = list(digests.images(tmp_path))
    assert [image.partition(":")[0] for image in before] == [
        "python",
        "redis",
        "ghcr.io/ggml-org/llama.cpp",
        "vllm/vllm-openai",
    ]
    asked: list[str] = []

    def look_up(image: str) -> str:
        asked.append(image)
        return DIGEST

    for _ in range(2):
        # The second time the digests are replaced.
        for name in digests.REFERENCES:
            (tmp_path / name).write_text(digests.pinned(name, look_up, tmp_path))
        assert list(digests.images(tmp_path)) == [f"{image.partition('@')[0]}@{DIGEST}" for image in before]
    assert asked == [image.partition("@")[0] for image in before] * 2
    compose = (tmp_path / "compose.yaml").read_text()
    assert f"image: ${{LLAMA_IMAGE:-ghcr.io/ggml-org/llama.cpp:server@{DIGEST}}}\n" in compose
    assert "image: chatbot\n" in compose
    assert f"ARG PYTHON=3.11-slim-bookworm@{DIGEST}\n" in (tmp_path / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("tool", "output", "status", "expected"),
    [
        ("crane", DIGEST, 0, DIGEST),
        ("docker", DIGEST, 0, DIGEST),
        ("skopeo", '{"a":1}', 0, "sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"),
        ("crane", DIGEST, 1, None),
        ("docker", "sha256:short", 0, None),
        ("skopeo", "", 0, None),
    ],
)
def test_a_digest_comes_from_the_registry_or_not_at_all(
    tool: str, output: str, status: int, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / tool
    program.write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(digests, "TOOLS", {tool: digests.TOOLS[tool]})
    if expected is None:
        with pytest.raises(digests.NoDigest, match=tool):
            digests.digest_of("redis:8")
    else:
        assert digests.digest_of("redis:8") == expected


def test_an_audit_that_cannot_ask_says_so_and_fails_when_it_is_strict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = runpy.run_path(str(ROOT / ".ci" / "audit.py"))
    # No service can be reached through this proxy.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setitem(audit["main"].__globals__, "SERVICES", ("osv",))
    monkeypatch.setattr(sys, "argv", ["audit.py", "--strict"])
    assert audit["main"]() == 2
    output = capsys.readouterr().out
    assert "NOT ASKED: Python packages" in output
    assert "NOT ASKED: the page's libraries (marked " in output
    assert "INCOMPLETE" in output


def test_an_audit_reports_what_it_finds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    audit = runpy.run_path(str(ROOT / ".ci" / "audit.py"))
    found = [{"name": "celery", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}]
    answers = {
        "works": lambda _: True,
        "ask": lambda *_: found,
        "ask_npm": lambda name, _: ["GHSA-1"] * (name == "marked"),
    }
    for name, answer in answers.items():
        monkeypatch.setitem(audit["main"].__globals__, name, answer)
    monkeypatch.setattr(sys, "argv", ["audit.py"])
    assert audit["main"]() == 1
    output = capsys.readouterr().out
    assert "celery 1: CVE-1, fixed in 2" in output
    assert re.search(r"marked \S+: GHSA-1\n", output)
    assert "NOT ASKED" not in output
