"""`.env.example` and docs/settings.md are what `make settings` writes."""

import pytest

from chatbot.config.reader import variables
from devtools.paths import ROOT
from devtools.settings_docs import GENERATED, default_text


@pytest.mark.parametrize("path", GENERATED)
def test_the_generated_files_are_up_to_date(path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert text == GENERATED[path](), "run `make settings`"
    for name, _, _ in variables():
        assert name in text


def test_no_default_of_a_secret_holds_a_password() -> None:
    for name, _, field in variables():
        if not field.repr:
            assert default_text(field) in ("", "redis://127.0.0.1:6379/0"), name
