"""Replies as Markdown, and hostile texts, which are shown as text."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from tests.support.page_user import PageUser

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


def test_hostile_text_is_shown_as_text(ada: PageUser) -> None:
    for text in HOSTILE:
        ada.ask(f"!say={text}")
    # `PageUser` records scripts that run, dialogs and requests. The second round shows the history.
    for _ in range(2):
        expect(ada.page.locator(".foot:visible")).to_have_count(len(HOSTILE))
        expect(ada.messages).to_have_text([f"!say={text}" for text in HOSTILE])
        expect(ada.replies.filter(has_text="onerror")).to_have_count(3)
        expect(ada.replies.nth(0)).to_have_text("<img src=x onerror=alert(1)>")
        expect(ada.replies.nth(1)).to_have_text("[x](javascript:alert(1))")
        assert ada.page.locator("#turns").locator(LIVE).count() == 0
        assert ada.page.evaluate(UNSAFE_LINKS) == []
        ada.page.reload()


def test_all_kinds_of_markdown_blocks_are_shown(ada: PageUser) -> None:
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
    expect(reply.get_by_text("☑ done")).to_have_css("list-style-type", "none")
    expect(reply.locator("blockquote")).to_have_text("said")
    expect(reply.get_by_role("cell")).to_have_text(["1", "2"])
    assert reply.locator("td").nth(1).evaluate("node => getComputedStyle(node).textAlign") == "right"
    expect(reply.locator("hr")).to_have_count(1)
    expect(reply.locator("pre")).to_have_text("indented")


def test_links_open_a_new_tab_and_send_no_referrer(ada: PageUser) -> None:
    reply = ada.ask("!say=[there](https://example.org/a?b=c&d) https://example.org/e <mailto:a@example.org>")
    links = reply.get_by_role("link")
    expect(links).to_have_text(["there", "https://example.org/e", "mailto:a@example.org"])
    for link in links.all():
        expect(link).to_have_attribute("target", "_blank")
        expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(links.first).to_have_attribute("href", "https://example.org/a?b=c&d")


def test_every_text_has_its_own_direction(ada: PageUser) -> None:
    texts = {"مرحبا بالعالم! 🙂": "rtl", "שלום world": "rtl", "hello שלום": "ltr", "🙂👩‍👩‍👧 emoji": "ltr"}
    for text, direction in texts.items():
        paragraph = ada.ask(f"!say={text}").locator("p")
        expect(paragraph).to_have_text(text)
        assert is_at_right(paragraph) == (direction == "rtl")
        # The same text in a message.
        ada.ask(text)
        expect(ada.messages.last).to_have_text(text)
        assert ada.messages.last.evaluate("node => getComputedStyle(node).direction") == direction


def test_every_item_of_a_list_has_its_own_direction(ada: PageUser) -> None:
    items = ada.ask("!say=- hello\\n- שלום").locator("li")
    assert [is_at_right(items.nth(number)) for number in range(2)] == [False, True]
    # The digits of a table stand where their column's other cells do.
    cells = ada.ask("!say=| \u05e9\u05dc\u05d5\u05dd | \u05e2\u05d5\u05dc\u05dd |\\n|---|---|\\n| 1 | 2 |").locator(
        "th, td"
    )
    assert [is_at_right(cells.nth(number)) for number in range(4)] == [True] * 4


def is_at_right(paragraph: Locator) -> bool:
    """Whether a short text in a wide paragraph stands at the right."""
    return bool(
        paragraph.evaluate(
            """node => {
              const range = document.createRange();
              range.selectNodeContents(node);
              return range.getBoundingClientRect().x > node.getBoundingClientRect().x + 50;
            }"""
        )
    )
