"""Which scripts the page preloads."""

from __future__ import annotations

import re

from chatbot.web import assets

#: `import … from './x.js'`, `import './x.js'` and `export … from`; not `import('./x.js')`.
IMPORT = re.compile(r"""^(?:import|export)\b[^;(]*?['"](\.[^'"]+)['"];""", re.MULTILINE)


def imports_of(*names: str) -> set[str]:
    """The modules that these import, directly or not, and they themselves."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            path = assets.FOLDER / name
            targets = [path.parent / target for target in IMPORT.findall(path.read_text("utf-8"))]
            waiting += [target.resolve().relative_to(assets.FOLDER).as_posix() for target in targets]
    return found


def test_the_modules_of_the_start_page_are_preloaded_first_and_then_all_that_a_chat_needs() -> None:
    first = imports_of("main.js")
    assert set(assets.START_MODULES) == first
    assert set(assets.Assets(assets.FOLDER).chat_modules) == imports_of("app.js") - first
