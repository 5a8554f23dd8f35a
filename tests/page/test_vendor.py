"""The libraries of the page."""

from __future__ import annotations

import hashlib

from chatbot.web.assets import FOLDER


def test_the_copies_of_the_libraries_are_those_that_were_published() -> None:
    vendor = FOLDER / "vendor"
    lines = (vendor / "SHA256SUMS").read_text("utf-8").splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}
    present = {path.name for path in vendor.iterdir()} - {"SHA256SUMS", "README.md"}
    assert set(listed) == present
    assert {name: hashlib.sha256((vendor / name).read_bytes()).hexdigest() for name in present} == listed
