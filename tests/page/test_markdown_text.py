"""Markdown that is drawn while it grows."""

from __future__ import annotations

import pytest

from tests.support.page_user import PageUser

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
    return node.innerHTML.replace(/\\s+(?=<[/]p>|<[^/])|(?<=>)\\s+/g, '');
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
    "a\n<details>\n<summary>One <b>b</b></summary>\n\n- x\n\n<details><summary>Two</summary>\nin\n\n```html\n"
    "<details>\n</details>\n```\n</details>\n\nrest</details>\n\n<details>\nnone\n</details>after\n<details><summary>open\n\nend",
    "````md\n```\ninner\n```\n````\n```\n```\n\n- [ ] t\n- 🙂é مرحبا\n\n    code\n\n\tcode",
]


def test_a_reply_looks_the_same_in_chunks_as_in_one(ada: PageUser) -> None:
    assert ada.page.evaluate(GROWING, [ada.modules, DOCUMENTS]) == []


TABLE = """
async ([base, text]) => {
  const { MarkdownText } = await import(base + 'markdown-text.js');
  const node = document.createElement('div');
  const drawn = new MarkdownText(node);
  let bars = false;
  for (let end = 1; end < text.length; end += end < 40 ? 1 : 97) {
    drawn.set(text.slice(0, end), false);
    while (drawn.behind) drawn.step();
    bars ||= node.textContent.includes('|');
  }
  drawn.set(text, true);
  while (drawn.behind) drawn.step();
  const count = (selector) => node.querySelectorAll(selector).length;
  return [bars, count('table'), count('thead tr'), count('tbody tr'), count('p')];
}
"""


def test_a_growing_table_shows_no_bars_and_is_one_table_when_it_is_long(ada: PageUser) -> None:
    rows = "".join(f"| row {number} | with some words in it |\n" for number in range(300))
    text = f"| Name | What |\n|:---|---|\n{rows}\nend"
    assert ada.page.evaluate(TABLE, [ada.modules, text]) == [False, 1, 1, 300, 1]


@pytest.mark.parametrize(
    ("line", "count", "selector"),
    [
        ("- item N\n", 4000, "li"),
        ("| N | b |\n", 4000, "tbody tr"),
        ("code N\n", 8000, None),
        ("word N ", 9000, None),
        ("para N\n\n", 3000, "details > p"),
    ],
)
def test_a_long_block_is_drawn_in_parts_and_loses_nothing(
    ada: PageUser, line: str, count: int, selector: str | None
) -> None:
    before = {"|": "| a | b |\n|---|---|\n", "c": "```\n", "p": "<details><summary>x</summary>\n"}.get(line[0], "")
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
