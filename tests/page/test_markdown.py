"""Replies as Markdown, and that nothing in a text is ever more than text."""

from __future__ import annotations

import hashlib

import pytest
from playwright.sync_api import Locator, expect

from chatbot.web.assets import FOLDER
from tests.page.person import Person

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "<script>alert(1)</script>",
    "[x](&#106;avascript:alert(1)) <javascript:alert(1)>",
    "![x](https://evil.example/a.png)",
    '![x](x" onerror="alert(1))',
    '[a](https://e.example/"onmouseover="alert(1))',
    "[a](data:text/html,<script>alert(1)</script>)",
    "<a href='javascript:alert(1)'>x</a><iframe src=//evil.example></iframe>",
    "<svg><style><img src=x onerror=alert(1)>",
    '```"><img src=x onerror=alert(1)>\\ncode\\n```',
    "<form action=//evil.example><input name=q autofocus onfocus=alert(1)></form>",
]
LIVE = (
    "script, img, iframe, svg:not(:has(> use)), style, form, input, "
    "[style], [onerror], [onfocus], [onmouseover], [srcdoc]"
)
UNSAFE_LINKS = "Array.from(document.querySelectorAll('.turn a'), a => a.href).filter(h => !/^(https?|mailto):/.test(h))"


def test_hostile_text_is_shown_as_text(ada: Person) -> None:
    for text in HOSTILE:
        ada.ask(f"!say={text}")
    # Then again from the history. What runs, asks or loads is noticed by `Person`.
    for _ in range(2):
        expect(ada.page.locator(".foot:visible")).to_have_count(len(HOSTILE))
        expect(ada.sayings).to_have_text([f"!say={text}" for text in HOSTILE])
        expect(ada.replies.filter(has_text="onerror")).to_have_count(3)
        expect(ada.replies.nth(0)).to_have_text("<img src=x onerror=alert(1)>")
        expect(ada.replies.nth(1)).to_have_text("[x](javascript:alert(1))")
        assert ada.page.locator("#turns").locator(LIVE).count() == 0
        assert ada.page.evaluate(UNSAFE_LINKS) == []
        ada.page.reload()


def test_the_blocks_of_markdown_are_shown(ada: Person) -> None:
    text = (
        "# Title\n\nOne **bold**, *slanted*, ~~wrong~~ word and `code`.\nA line.\n\n1. one\n2. two\n   - deep\n\n"
        "- [x] done\n\n> said\n\n| left | right |\n|:--|--:|\n| 1 | 2 |\n\n---\n\n    indented\n\nlast"
    )
    reply = ada.ask("!say=" + text.replace("\n", "\\n"))
    expect(reply.get_by_role("heading", name="Title")).to_be_visible()
    for name, content in {"strong": "bold", "em": "slanted", "del": "wrong", "p > code": "code"}.items():
        expect(reply.locator(name)).to_have_text(content)
    expect(reply.locator("p br")).to_have_count(1)
    expect(reply.locator("ol > li")).to_have_count(2)
    expect(reply.locator("ol ul > li")).to_have_text("deep")
    expect(reply.get_by_text("☑ done")).to_be_visible()
    expect(reply.locator("blockquote")).to_have_text("said")
    expect(reply.get_by_role("cell")).to_have_text(["1", "2"])
    assert reply.locator("td").nth(1).evaluate("node => getComputedStyle(node).textAlign") == "right"
    expect(reply.locator("hr")).to_have_count(1)
    expect(reply.locator("pre")).to_have_text("indented")


def test_links_open_elsewhere_and_tell_nothing(ada: Person) -> None:
    reply = ada.ask("!say=[there](https://example.org/a?b=c&d) https://example.org/e <mailto:a@example.org>")
    links = reply.get_by_role("link")
    expect(links).to_have_text(["there", "https://example.org/e", "mailto:a@example.org"])
    for link in links.all():
        expect(link).to_have_attribute("target", "_blank")
        expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(links.first).to_have_attribute("href", "https://example.org/a?b=c&d")


def test_code_can_be_copied(ada: Person) -> None:
    reply = ada.ask("!say=Do this:\\n\\n```python\\nif True:\\n    <b>pass</b>\\n```\\n\\nand be done.")
    expect(reply.locator(".code-bar span")).to_have_text("python")
    reply.get_by_role("button", name="Copy code").click()
    expect(reply.locator(".copy-code")).to_have_text("Copied")
    assert ada.page.evaluate("navigator.clipboard.readText()") == "if True:\n    <b>pass</b>"


def test_text_runs_in_its_own_direction(ada: Person) -> None:
    texts = {"مرحبا بالعالم! 🙂": "rtl", "שלום world": "rtl", "hello שלום": "ltr", "🙂👩‍👩‍👧 emoji": "ltr"}
    for text, direction in texts.items():
        paragraph = ada.ask(f"!say={text}").locator("p")
        expect(paragraph).to_have_text(text)
        assert is_at_right(paragraph) == (direction == "rtl")
        # The same as typed, without the order.
        ada.ask(text)
        expect(ada.sayings.last).to_have_text(text)
        assert ada.sayings.last.evaluate("node => getComputedStyle(node).direction") == direction


def test_each_item_of_a_list_runs_in_its_own_direction(ada: Person) -> None:
    items = ada.ask("!say=- hello\\n- שלום").locator("li")
    assert [is_at_right(items.nth(number)) for number in range(2)] == [False, True]


def is_at_right(paragraph: Locator) -> bool:
    """Whether a short text in a wide paragraph begins at the right."""
    return bool(
        paragraph.evaluate(
            """node => {
              const range = document.createRange();
              range.selectNodeContents(node);
              return range.getBoundingClientRect().x > node.getBoundingClientRect().x + 50;
            }"""
        )
    )


GROWING = """
async ([base, documents]) => {
  const { MarkdownText } = await import(base + 'markdown-text.js');
  const draw = (text, size) => {
    const node = document.createElement('div');
    const drawn = new MarkdownText(node);
    for (let end = size; end < text.length; end += size) {
      drawn.set(text.slice(0, end), false);
      while (drawn.behind) drawn.step();
    }
    drawn.set(text, true);
    while (drawn.behind) drawn.step();
    return node.innerHTML.replaceAll('\\n</p>', '</p>');
  };
  return documents.filter((text) => [1, 2, 3, 7, 50].some((size) => draw(text, size) !== draw(text, text.length)));
}
"""
DOCUMENTS = [
    "Here:\n- a\n- b\n\n  more\n\n1. x\n\n2. y\n\n   ```sh\n   ls\n   ```\n3. z\n\nend",
    "text\n```js\nlet a;\n\n`` ` ``\n```\nafter\n~~~\nopen\n```\n\n\n",
    "para\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nnext\n---\nTitle?\n===\n",
    "* * *\n*em* and **b\n\nold** x\r\ny\r\n",
    "> a\nlazy\n> - b\n\n> c\n\n# H\n## I\n<div>\n\n</div>\n[r]: http://x.y\n[r]\n",
    "````md\n```\ninner\n```\n````\n```\n```\n\n- [ ] t\n- 🙂é مرحبا\n\n    code\n\n\tcode",
]


def test_a_reply_that_grew_looks_like_one_that_came_whole(ada: Person) -> None:
    assert ada.page.evaluate(GROWING, [ada.modules, DOCUMENTS]) == []


@pytest.mark.parametrize(
    ("line", "count", "selector"),
    [("- item N\n", 4000, "li"), ("| N | b |\n", 4000, "tbody tr"), ("code N\n", 8000, None), ("word N ", 9000, None)],
)
def test_a_long_block_is_drawn_in_parts_and_loses_nothing(
    ada: Person, line: str, count: int, selector: str | None
) -> None:
    before = {"|": "| a | b |\n|---|---|\n", "c": "```\n"}.get(line[0], "")
    text = before + "".join(line.replace("N", str(number)) for number in range(count))
    drawn = ada.page.evaluate(
        """async ([base, text, selector]) => {
          const { MarkdownText } = await import(base + 'markdown-text.js');
          const node = document.createElement('div');
          const drawn = new MarkdownText(node);
          for (let end = 0; end < text.length; end += 997) {
            drawn.set(text.slice(0, end), false);
            while (drawn.behind) drawn.step();
          }
          drawn.set(text, true);
          while (drawn.behind) drawn.step();
          const numbers = (node.textContent.match(/\\d+/g) ?? []).map(Number);
          const parts = node.querySelectorAll('ul, table, p, code > span').length;
          return [numbers, selector ? node.querySelectorAll(selector).length : null, parts];
        }""",
        [ada.modules, text, selector],
    )
    numbers, found, parts = drawn
    assert numbers == list(range(count))
    assert found in (None, count)
    assert parts > 5


def test_the_kept_copies_of_libraries_are_those_that_were_published() -> None:
    vendor = FOLDER / "vendor"
    lines = (vendor / "SHA256SUMS").read_text("utf-8").splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}
    kept = {path.name for path in vendor.iterdir()} - {"SHA256SUMS", "README.md"}
    assert set(listed) == kept
    assert {name: hashlib.sha256((vendor / name).read_bytes()).hexdigest() for name in kept} == listed
