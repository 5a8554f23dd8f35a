"""The wheel holds the product with all its files, and nothing else."""

from __future__ import annotations

import email
import re
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from devtools.package import build_wheel
from devtools.paths import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(files.read(name))


def test_the_wheel_holds_every_file_of_the_product_and_no_tools(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        held = {name for name in files.namelist() if ".dist-info/" not in name}
    product = {path for path in (ROOT / "chatbot").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert held == {str(path.relative_to(ROOT)) for path in product}
    assert {".lua", ".html", ".js", ".css", ".svg"} <= {Path(name).suffix for name in held}
    assert any("/vendor/" in name for name in held)


def test_the_wheel_requires_what_the_requirements_files_say(wheel: Path) -> None:
    required = set(metadata(wheel).get_all("Requires-Dist", []))
    extras = {
        "local": ["local"],
        "bench": ["local", "bench"],
        "examples": ["examples"],
        "tracing": ["tracing"],
        "dev": ["local", "bench", "examples", "tracing", "dev"],
    }
    assert set(metadata(wheel).get_all("Provides-Extra", [])) == set(extras)
    plain = {line.partition(";")[0].strip().lower() for line in required if "extra ==" not in line}
    assert plain == set(pins("requirements.txt"))
    for extra, files in extras.items():
        found = {re.split(r"\s*;", line)[0].lower() for line in required if re.search(rf"extra == .{extra}\b", line)}
        assert found == {pin for name in files for pin in pins(f"requirements-{name}.txt")}


def pins(file: str) -> list[str]:
    lines = (ROOT / file).read_text("utf-8").splitlines()
    return [line.partition(";")[0].strip().lower() for line in lines if line and not line.startswith("#")]
