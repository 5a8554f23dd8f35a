"""The documents name what there is: every relative link and anchor, target of make and module leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from devtools.paths import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docker/*.md")]
DOCUMENTS += [ROOT / "clients" / "python" / "README.md"]


def prose(document: Path) -> str:
    """A document without its blocks of code, in which `#` begins a comment and brackets are no links."""
    return re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(document: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if link.startswith(("http:", "https:")):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def test_links_between_documents_lead_somewhere() -> None:
    assert len(DOCUMENTS) > 10
    assert [(document.name, link) for document in DOCUMENTS for link in dead_links(document)] == []


def test_commands_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named, modules = set(), set()
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        # `make run` in a line, and at the beginning of a line of a block.
        named |= set(re.findall(r"(?:`|^)(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text, re.MULTILINE))
        modules |= set(re.findall(r"python -m ((?:chatbot|devtools|bench)[\w.]*)", text))
    assert "run" in named
    assert named <= targets
    paths = [ROOT / module.replace(".", "/") for module in modules]
    assert paths
    assert [path for path in paths if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())] == []
