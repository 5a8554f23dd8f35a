"""Writes docker/sbom.cdx.json, the software bill of materials of the image, for `make sbom`.

It lists, in CycloneDX 1.6, the Python packages of docker/requirements.lock that a Linux image installs, with the hashes
of their files. It also lists the page's vendored libraries and the container images of docker/. It holds no time, so
that it changes only with what it lists.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from devtools.digests import images
from devtools.paths import ROOT

SBOM = ROOT / "docker" / "sbom.cdx.json"
LOCK = ROOT / "docker" / "requirements.lock"
VENDOR = ROOT / "chatbot" / "web" / "static" / "vendor"
#: Where the image's packages run, for the markers of the lock file.
IMAGE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.14",
    "python_version": "3.11",
    "sys_platform": "linux",
}


def main(arguments: list[str] | None = None) -> int:
    """Writes the file; exit status 1, and the reason, when what would be written is not valid."""
    parser = argparse.ArgumentParser(prog="python -m devtools.sbom", description="Writes docker/sbom.cdx.json")
    parser.add_argument("vendored", nargs="*", help="the page's libraries: marked-18.2.1=marked.esm.js")
    document = describe(parser.parse_args(arguments).vendored)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        print(f"sbom: not valid: {problem}", file=sys.stderr)
        return 1
    SBOM.write_text(text, "utf-8")
    print(f"wrote {SBOM.relative_to(ROOT)}: {len(document['components'])} components")
    return 0


def describe(vendored: list[str]) -> dict[str, Any]:
    """The bill of materials."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "-", "--pyproject", str(ROOT / "pyproject.toml")]
    command += ["--output-reproducible", "--spec-version", "1.6"]
    entries = "\n".join(entry for _, entry in locked_packages())
    done = subprocess.run(command, input=entries, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    references = {}
    for component in document["components"]:
        # Instead of the line in the input.
        del component["description"]
        references[component["bom-ref"]] = component["bom-ref"] = component["purl"]
    for dependency in document.get("dependencies", []):
        dependency["ref"] = references.get(dependency["ref"], dependency["ref"])
        if "dependsOn" in dependency:
            dependency["dependsOn"] = sorted(references.get(name, name) for name in dependency["dependsOn"])
    document["components"] += [*map(_library, vendored), *map(_image, images())]
    return document


def locked_packages() -> Iterator[tuple[str, str]]:
    """The packages of the lock file that the image installs: `name==version`, and the entry with its hashes."""
    for entry in re.split(r"\n(?=\S)", LOCK.read_text("utf-8").strip()):
        if entry.startswith("#"):
            continue
        requirement = Requirement(entry.partition("\\")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(dict(IMAGE)):
            yield f"{requirement.name}{requirement.specifier}", entry


def _library(vendored: str) -> dict[str, Any]:
    """A library of the page, from `name-version=pattern`, its name on npm and its files among the vendored ones."""
    release, _, pattern = vendored.partition("=")
    name, _, version = release.rpartition("-")
    sums = {name: digest for digest, name in map(str.split, (VENDOR / "SHA256SUMS").read_text("utf-8").splitlines())}
    purl = f"pkg:npm/{quote(name)}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "components": [
            {
                "type": "file",
                "bom-ref": f"{purl}#{path.name}",
                "name": str(path.relative_to(ROOT)),
                "hashes": [{"alg": "SHA-256", "content": sums[path.name]}],
            }
            for path in sorted(VENDOR.glob(pattern))
        ],
    }


def _image(reference: str) -> dict[str, Any]:
    """A container image; without a digest its content may change, which a property says."""
    tagged, _, digest = reference.partition("@")
    name, _, tag = tagged.rpartition(":")
    return {
        "type": "container",
        "bom-ref": f"oci:{name}",
        "name": name,
        "version": f"{tag}@{digest}" if digest else tag,
        "properties": [
            {"name": "chatbot:pinned", "value": "by digest" if digest else "by tag only: content may change"}
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
