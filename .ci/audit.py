"""Known vulnerabilities of what the image, the page and the tools are made of.

Exit status 1 when there is one. What could not be asked is reported as NOT ASKED and, with `--strict`, is a failure
too (status 2): an audit that asked nothing must not look like one that found nothing. So each service is first asked
about a release with a known vulnerability.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "docker" / "requirements.lock"
SBOM = ROOT / "docker" / "sbom.cdx.json"
SERVICES = ("pypi", "osv")
#: CVE-2018-18074 and others.
KNOWN_VULNERABILITY = "requests==2.19.0"
#: The service that knows npm's packages, and a release with a known vulnerability there.
OSV = "https://api.osv.dev/v1/query"
KNOWN_NPM_VULNERABILITY = ("marked", "0.3.5")
#: Seconds: for one answer, for the question about the known vulnerability, and for all questions.
ANSWER, PROBE, ALL = 5, 8, 120


def ask(service: str, arguments: list[str], timeout: float) -> list[dict[str, Any]] | None:
    """The findings of pip-audit for each package; None when it fails."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--timeout", str(ANSWER)]
    command += ["--progress-spinner", "off", "--format", "json", *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        found: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return found


def ask_npm(name: str, version: str) -> list[str] | None:
    """The ids of the vulnerabilities of a release on npm; None when OSV does not answer."""
    question = {"version": version, "package": {"name": name, "ecosystem": "npm"}}
    try:
        answer = requests.post(OSV, json=question, timeout=ANSWER)
        answer.raise_for_status()
        return [str(found["id"]) for found in answer.json().get("vulns", ())]
    except (requests.RequestException, ValueError):
        return None


def works(service: str) -> bool:
    """Whether the service answers and has data."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{KNOWN_VULNERABILITY}\n")
        found = ask(service, ["--requirement", str(requirements), "--no-deps", "--disable-pip"], PROBE)
    return any(package.get("vulns") for package in found or ())


def audit_python(service: str, what: str, arguments: list[str]) -> tuple[int, bool]:
    """Prints the vulnerabilities of Python packages; returns their number, and whether all were asked about."""
    found = ask(service, arguments, ALL)
    if found is None:
        print(f"audit: NOT ASKED: {what}: {service} stopped answering")
        return 0, False
    count = 0
    for package in found:
        for vulnerability in package.get("vulns", ()):
            count += 1
            fixed = ", ".join(vulnerability["fix_versions"]) or "no release yet"
            print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
        if "skip_reason" in package:
            print(f"audit: NOT ASKED: {package['name']}: {package['skip_reason']}")
    print(f"audit: {what}: {len(found)} packages, {count} known vulnerabilities ({service})")
    return count, not any("skip_reason" in package for package in found)


def audit_page() -> tuple[int, bool]:
    """The same for the page's libraries, which the bill of materials names."""
    components = json.loads(SBOM.read_text("utf-8"))["components"]
    releases = [(c["name"], c["version"]) for c in components if c.get("purl", "").startswith("pkg:npm/")]
    answers = [ask_npm(*release) for release in releases] if ask_npm(*KNOWN_NPM_VULNERABILITY) else [None]
    if not releases or None in answers:
        names = ", ".join(f"{name} {version}" for name, version in releases)
        print(f"audit: NOT ASKED: the page's libraries ({names}): {OSV} does not answer")
        return 0, False
    found = [(release, name) for release, names in zip(releases, answers, strict=True) for name in names or ()]
    for (name, version), vulnerability in found:
        print(f"audit: {name} {version}: {vulnerability}")
    print(f"audit: the page: {len(releases)} libraries, {len(found)} known vulnerabilities (osv)")
    return len(found), True


def main() -> int:
    """Prints the vulnerabilities, and what could not be asked."""
    service = next(filter(works, SERVICES), None)
    if service is None:
        print(f"audit: NOT ASKED: Python packages: no advisory service can be reached ({', '.join(SERVICES)})")
        results = [(0, False)]
    else:
        lock = ["--requirement", str(LOCK), "--no-deps", "--disable-pip"]
        results = [audit_python(service, "the image", lock), audit_python(service, "this environment", ["--local"])]
    results.append(audit_page())
    if not all(asked for _, asked in results):
        print("audit: INCOMPLETE: the absence of findings above means nothing for what was NOT ASKED")
    if any(count for count, _ in results):
        return 1
    return 2 if "--strict" in sys.argv[1:] and not all(asked for _, asked in results) else 0


if __name__ == "__main__":
    sys.exit(main())
