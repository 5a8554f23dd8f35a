"""The page stays responsive with long chats, long replies and fast replies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from devtools.harness.deployment import Deployment
from tests.support.page_user import PageUser

pytestmark = pytest.mark.alone

REPLY = (
    "A **bold** word, `code`, and a list:\n\n- one\n- two\n\n"
    "```python\nprint('three')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"
)
#: The machine may be busy, but not every time.
ROUNDS = 8


def assert_smooth(user: PageUser, act: Callable[[], None]) -> None:
    """Fails if the page has a long task in each of several rounds of `act`. Even CPU time grows on a busy machine."""
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        with user.long_tasks() as slow:
            act()
        rounds.append(slow)
        if not slow:
            break
    assert rounds[-1] == []


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
    def ask() -> None:
        turns = reader.page.locator(".turn").count()
        reader.send("!interval=50 !say=" + f"{REPLY}\n\n{REPLY}".replace("\n", "\\n"))
        expect(reader.page.locator(".turn")).to_have_count(turns + 1)
        # A check of visibility would force the layout of what is out of sight.
        expect(reader.page.locator(".turn:last-child .foot:not([hidden])")).to_have_count(1)

    assert_smooth(reader, ask)
    expect(reader.page.locator(".turn:last-child td")).to_have_text(["1", "2", "1", "2"])


@pytest.mark.parametrize(
    ("order", "end"),
    [("!tokens=19000", " w18995"), ("!tokens=19000 \n```\nlet", " w18994")],
    ids=["100 KB in one paragraph", "100 KB in one line of code"],
)
def test_a_long_reply_is_shown_completely_and_smoothly(ada: PageUser, order: str, end: str) -> None:
    assert_smooth(ada, lambda: expect(ada.ask(order)).to_contain_text(end))

    def read_history() -> None:
        ada.page.reload()
        expect(ada.replies.last).to_contain_text(end)

    assert_smooth(ada, read_history)


@pytest.mark.timeout(500)
def test_a_chat_of_2000_messages_opens_quickly_and_smoothly(
    chromium: Browser, site: Deployment, write_history: Callable[..., str]
) -> None:
    user = PageUser(chromium, site.url()).return_to(write_history(1000, REPLY))

    def read_all() -> None:
        user.page.reload()
        expect(user.replies.last).to_contain_text("answer 999")
        user.load_all()
        expect(user.page.locator(".turn")).to_have_count(1000, timeout=100_000)
        expect(user.page.locator(".turn").first).to_contain_text("answer 0")
        for height in (0, 20_000, 100_000, 0):
            user.page.locator("#scroller").evaluate("(node, top) => { node.scrollTop = top; }", height)

    assert_smooth(user, read_all)
    took = 0.0
    for _ in range(ROUNDS):
        began = time.monotonic()
        user.page.reload()
        expect(user.replies.last).to_contain_text("answer 999")
        took = time.monotonic() - began
        if took < 1:
            break
    user.close()
    assert took < 1
