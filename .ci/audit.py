"""Looks up known vulnerabilities of the installed packages; exit status 1 when there is one.

A service that cannot be reached does not fail the check, and one that answers without data must not pass it: each
service is first asked about a release with a known vulnerability.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
#: CVE-2018-18074 and others.
KNOWN_VULNERABILITY = "requests==2.19.0"
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


def works(service: str) -> bool:
    """Whether the service answers and has data."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{KNOWN_VULNERABILITY}\n")
        found = ask(service, ["--requirement", str(requirements), "--no-deps", "--disable-pip"], PROBE)
    return any(package.get("vulns") for package in found or ())


def main() -> int:
    """Prints the vulnerabilities."""
    service = next(filter(works, SERVICES), None)
    if service is None:
        print(f"audit: skipped, no advisory service can be reached ({', '.join(SERVICES)})")
        return 0
    found = ask(service, ["--local"], ALL)
    if found is None:
        print(f"audit: skipped, {service} stopped answering")
        return 0
    vulnerabilities = [(package, vulnerability) for package in found for vulnerability in package.get("vulns", ())]
    for package, vulnerability in vulnerabilities:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no release yet"
        print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    for package in found:
        if "skip_reason" in package:
            print(f"audit: skipped: {package['name']}: {package['skip_reason']}")
    print(f"audit: {len(found)} packages, {len(vulnerabilities)} known vulnerabilities")
    return 1 if vulnerabilities else 0


if __name__ == "__main__":
    sys.exit(main())
