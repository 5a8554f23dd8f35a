"""Pins the container images of docker/ by digest, for `make digests`.

Needs crane, skopeo or Docker with buildx, and a network. A tag may name another image tomorrow; a digest is the image.
Until this has run, docker/ names tags.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from devtools.paths import ROOT

DOCKER = ROOT / "docker"
#: Image references with a tag, and the digest if there is one: in the Dockerfile that of Python, in compose.yaml each
#: `image:`, also the default of a variable.
_DIGEST = r"(?P<digest>@sha256:[0-9a-f]{64})?"
REFERENCES = {
    "Dockerfile": re.compile(rf"^(?P<before>ARG (?P<repository>PYTHON)=)(?P<tag>[\w.-]+){_DIGEST}", re.MULTILINE),
    "compose.yaml": re.compile(
        rf"^(?P<before>\s+image: (?:\$\{{\w+:-)?(?P<repository>[\w./-]+):)(?P<tag>[\w.-]+){_DIGEST}", re.MULTILINE
    ),
}
#: How each tool prints the digest of an image for all platforms.
TOOLS = {
    "crane": ["crane", "digest", "{}"],
    "skopeo": ["skopeo", "inspect", "--raw", "--no-tags", "docker://{}"],
    "docker": ["docker", "buildx", "imagetools", "inspect", "--format", "{{{{.Manifest.Digest}}}}", "{}"],
}
#: Seconds for one image.
TIMEOUT = 60


class NoDigest(Exception):
    """No tool is installed, or it gave no digest."""


def main() -> int:
    """Writes the digests of today; exit status 1, with nothing written, when one cannot be looked up."""
    try:
        changed = {name: pinned(name, digest_of) for name in REFERENCES}
    except NoDigest as error:
        print(f"digests: NOT PINNED: {error}", file=sys.stderr)
        return 1
    for name, text in changed.items():
        (DOCKER / name).write_text(text, "utf-8")
    print(*images(), sep="\n")
    return 0


def images(folder: Path = DOCKER) -> Iterator[str]:
    """The images that docker/ names, as `repository:tag` or `repository:tag@digest`."""
    for name, pattern in REFERENCES.items():
        for found in pattern.finditer((folder / name).read_text("utf-8")):
            yield f"{_tagged(found)}{found['digest'] or ''}"


def pinned(name: str, look_up: Callable[[str], str], folder: Path = DOCKER) -> str:
    """The text of a file with the digest that `look_up` returns for each of its images."""
    text = (folder / name).read_text("utf-8")
    return REFERENCES[name].sub(lambda found: f"{found['before']}{found['tag']}@{look_up(_tagged(found))}", text)


def _tagged(found: re.Match[str]) -> str:
    return f"{found['repository'].lower()}:{found['tag']}"


def digest_of(image: str) -> str:
    """The digest of an image in its registry. Raises `NoDigest`."""
    tool = next(filter(shutil.which, TOOLS), None)
    if tool is None:
        raise NoDigest(f"none of {', '.join(TOOLS)} is installed")
    command = [part.format(image) for part in TOOLS[tool]]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise NoDigest(f"{tool} took longer than {TIMEOUT} s for {image}") from None
    digest = _digest_in(tool, done.stdout)
    if done.returncode or digest is None:
        raise NoDigest(f"{tool}, {image}: {done.stderr.decode(errors='replace').strip()[:200] or 'no digest'}")
    return digest


def _digest_in(tool: str, output: bytes) -> str | None:
    if tool == "skopeo":
        # It prints the manifest itself; its digest is its hash.
        return f"sha256:{hashlib.sha256(output).hexdigest()}" if output.lstrip()[:1] == b"{" else None
    found = re.fullmatch(r"sha256:[0-9a-f]{64}", output.decode(errors="replace").strip())
    return found[0] if found else None


if __name__ == "__main__":
    sys.exit(main())
