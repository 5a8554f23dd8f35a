"""Maths, colours of code, and the HTML tags that models write: shown as what they mean, within the security policy."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from devtools.harness.deployment import Deployment, eventually
from tests.support.page_user import PageUser

PHONE = {"width": 390, "height": 844}
MATHS = r"\(x^2\) and $a*b*c$, not $5 and $10.\n\n$$\nE = mc^2\n$$\n\n\[ \frac12 \]"
TAGS = (
    "H<sub>2</sub>O x<sup>*2*</sup> <kbd>Esc</kbd> a<br>b\\n\\n"
    "<details><summary><b>More</b></summary>\\n\\nHidden **text**\\n\\n<details><summary>Deeper</summary>\\n\\nDeepest"
    "\\n\\n</details>\\n\\nStill hidden\\n\\n</details>\\n\\nAfter"
)
HOSTILE = [
    r"\(\href{javascript:alert(1)}{x}\) \(\htmlStyle{color:red}{x}\) $\includegraphics{https://evil.example/a.png}$",
    r"\(<img src=x onerror=alert(1)>\) $$</code><script>alert(1)</script>$$",
    r"\(\text{<img src=x onerror=alert(1)>}\) \(\def\x{\x\x}\x\)",
    "<sub onclick=alert(1)>x</sub> <sup><img src=x onerror=alert(1)></sup> <kbd style=x>x</kbd>",
    "<details ontoggle=alert(1) open><summary>x</summary>y</details>",
    "<details><summary><img src=x onerror=alert(1)></summary><b onclick=alert(1)>y</b></details>",
    "<details>\\n" * 600,
    "```xml\\n<img src=x onerror=alert(1)><script>alert(1)</script>\\n```",
]
LIVE = "script, img, a, [style], [onclick], [onerror], [ontoggle], [href]:not(use)"


def test_formulas_are_drawn_as_mathml_and_prices_are_not(ada: PageUser) -> None:
    reply = ada.ask(f"!interval=20 !say={MATHS}")
    expect(reply.locator("math")).to_have_count(4)
    expect(reply.locator("math[display=block]")).to_have_count(2)
    expect(reply.locator("math mfrac")).to_have_count(1)
    expect(reply.locator("em")).to_have_count(0)
    expect(reply).to_contain_text("not $5 and $10.")


def test_code_is_coloured_without_markup_and_only_in_known_languages(ada: PageUser) -> None:
    reply = ada.ask('!interval=20 !say=```python\\ndef f():\\n    return "text"\\n```\\n\\n```nonsense\\ndef f\\n```')
    # wait_for_function would need eval, which the security policy forbids, for all but its first look.
    sizes = "['keyword', 'string'].map((kind) => CSS.highlights.get(kind)?.size)"
    eventually(lambda: ada.page.evaluate(sizes) == [2, 1], what="the code is coloured")
    expect(reply.locator("pre").first.locator("span span")).to_have_count(0)
    expect(reply.locator("pre")).to_have_text(['def f():\n    return "text"', "def f"])
    # With forced colours a highlight would be a block of the selection's colour.
    ada.page.emulate_media(forced_colors="active")
    eventually(lambda: ada.page.evaluate(sizes) == [0, 0], what="the code is not coloured")


def test_the_libraries_are_loaded_only_when_a_reply_needs_them(ada: PageUser) -> None:
    names = (
        "performance.getEntriesByType('resource').map(({ name }) => name).filter(name => /katex|highlight/.test(name))"
    )
    ada.ask("!say=No formula, no `code`.")
    assert ada.page.evaluate(names) == []


def test_tags_that_models_write_are_shown_as_what_they_mean(ada: PageUser) -> None:
    reply = ada.ask(f"!say={TAGS}")
    for name, text in {"sub": "2", "sup": "2", "kbd": "Esc", "summary b": "More"}.items():
        expect(reply.locator(name)).to_have_text(text)
    expect(reply.locator("p br")).to_have_count(1)
    expect(reply.get_by_text("Hidden text")).to_be_hidden()
    reply.locator("summary").first.click()
    expect(reply.get_by_text("Hidden text")).to_be_visible()
    expect(reply.get_by_text("Deepest")).to_be_hidden()
    reply.get_by_text("Deeper").click()
    expect(reply.get_by_text("Deepest")).to_be_visible()
    expect(reply.locator("details > details + p")).to_have_text("Still hidden")
    expect(reply).not_to_contain_text("<")


def test_hostile_maths_tags_and_code_are_text(ada: PageUser) -> None:
    for text in HOSTILE:
        ada.ask(f"!say={text}")
    # `PageUser` records scripts that run, dialogs, requests, and reports of the security policy.
    expect(ada.replies.nth(3)).to_contain_text("<img src=x onerror=alert(1)>")
    assert ada.page.locator("#turns").locator(LIVE).count() == 0


def test_a_reply_covers_nothing_outside_of_it(ada: PageUser) -> None:
    ada.ask(r"!say=$\rule{10000em}{10000em}$ $\raisebox{9000em}{x}$ and a" + "\u0301" * 5000)
    expect(ada.replies.locator("math")).to_have_count(2)
    box = ada.messages.bounding_box()
    assert box is not None
    seen = "([x, y]) => document.elementFromPoint(x, y).closest('.said') !== null"
    assert ada.page.evaluate(seen, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])


def test_wide_tables_and_formulas_on_a_phone_scroll_sideways(chromium: Browser, site: Deployment) -> None:
    user = PageUser(chromium, site.url(), viewport=PHONE).start_chat()
    cells = " | ".join(f"column {number} with some words" for number in range(6))
    table = user.ask(f"!say=| {cells} |\\n{'|---' * 6}|\\n| {cells} |").locator(".table")
    assert table.evaluate("node => node.scrollWidth > 2 * node.clientWidth")
    assert table.locator("td").first.evaluate("node => node.clientWidth > 100")
    formula = user.ask("!say=So $" + "+".join(f"a_{{{number}}}" for number in range(30)) + "$.").locator(".maths")
    assert formula.evaluate("node => node.scrollWidth > node.clientWidth")
    assert user.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    user.close()
