"""The page stays responsive with long chats, long replies and fast replies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from devtools.harness.deployment import Deployment
from tests.support.page_user import PageUser

REPLY = (
    "A **bold** word, `code`, and a list:\n\n- one\n- two\n\n"
    "```python\nprint('three')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"
)
#: The machine may be busy, but not every time.
ROUNDS = 3


@pytest.fixture(scope="module")
def long_chat(write_history: Callable[..., str]) -> str:
    return write_history(250, REPLY)


@pytest.fixture
def reader(chromium: Browser, site: Deployment, long_chat: str) -> Iterator[PageUser]:
    """A user in a chat of 500 messages."""
    user = PageUser(chromium, site.url()).return_to(long_chat)
    user.load_all()
    expect(user.page.locator(".turn")).to_have_count(250)
    yield user
    user.close()


def test_twenty_tokens_a_second_stay_smooth_in_a_chat_of_500_messages(reader: PageUser) -> None:
    with reader.long_tasks() as slow:
        reader.send("!interval=50 !say=" + f"{REPLY}\n\n{REPLY}".replace("\n", "\\n"))
        expect(reader.page.locator(".turn")).to_have_count(251)
        # A check of visibility would force the layout of what is out of sight.
        expect(reader.page.locator(".turn:last-child .foot:not([hidden])")).to_have_count(1)
    expect(reader.page.locator(".turn:last-child td")).to_have_text(["1", "2", "1", "2"])
    assert slow == []


@pytest.mark.parametrize(
    ("order", "end"),
    [("!tokens=19000", " w18995"), ("!tokens=19000 \n```\nlet", " w18994")],
    ids=["100 KB in one paragraph", "100 KB in one line of code"],
)
def test_a_long_reply_is_shown_completely_and_smoothly(ada: PageUser, order: str, end: str) -> None:
    with ada.long_tasks() as slow:
        expect(ada.ask(order)).to_contain_text(end)
    assert slow == []
    # The second time it comes from the history.
    with ada.long_tasks() as slow:
        ada.page.reload()
        expect(ada.replies).to_contain_text(end)
    assert slow == []


def test_a_chat_of_2000_messages_opens_quickly_and_smoothly(
    chromium: Browser, site: Deployment, write_history: Callable[..., str]
) -> None:
    user = PageUser(chromium, site.url()).return_to(write_history(1000, REPLY))
    with user.long_tasks() as slow:
        user.page.reload()
        expect(user.replies.last).to_contain_text("answer 999")
        user.load_all()
        expect(user.page.locator(".turn")).to_have_count(1000)
        expect(user.page.locator(".turn").first).to_contain_text("answer 0")
        for height in (0, 20_000, 100_000, 0):
            user.page.locator("#scroller").evaluate("(node, top) => { node.scrollTop = top; }", height)
    took = 0.0
    for _ in range(ROUNDS):
        began = time.monotonic()
        user.page.reload()
        expect(user.replies.last).to_contain_text("answer 999")
        took = time.monotonic() - began
        if took < 1:
            break
    user.close()
    assert slow == []
    assert took < 1
