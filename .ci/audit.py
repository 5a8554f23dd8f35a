"""Whether any package that is installed here has a known hole; exit status 1 when one has.

An advisory service that cannot be reached, or knows nothing, is no reason to fail, and none to call all well: each is
first asked about a release with a known hole.
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
KNOWN_HOLE = "requests==2.19.0"
#: Seconds: for one answer, for the question about the known hole, and for all of them.
ANSWER, PROBE, ALL = 5, 8, 120


def ask(service: str, arguments: list[str], timeout: float) -> list[dict[str, Any]] | None:
    """What pip-audit found out about each package; None when it could not."""
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, "--timeout", str(ANSWER)]
    command += ["--progress-spinner", "off", "--format", "json", *arguments]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        found: list[dict[str, Any]] = json.loads(said.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return found


def knows_holes(service: str) -> bool:
    """Whether the service can be asked."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{KNOWN_HOLE}\n")
        found = ask(service, ["--requirement", str(requirements), "--no-deps", "--disable-pip"], PROBE)
    return any(package.get("vulns") for package in found or ())


def main() -> int:
    service = next(filter(knows_holes, SERVICES), None)
    if service is None:
        print(f"audit: skipped, no advisory service can be reached ({', '.join(SERVICES)})")
        return 0
    found = ask(service, ["--local"], ALL)
    if found is None:
        print(f"audit: skipped, {service} stopped answering")
        return 0
    holes = [(package, hole) for package in found for hole in package.get("vulns", ())]
    for package, hole in holes:
        fixed = ", ".join(hole["fix_versions"]) or "no release yet"
        print(f"audit: {package['name']} {package['version']}: {hole['id']}, fixed in {fixed}")
    for package in found:
        if "skip_reason" in package:
            print(f"audit: not looked at: {package['name']}: {package['skip_reason']}")
    print(f"audit: {len(found)} packages, {len(holes)} known holes")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main())
