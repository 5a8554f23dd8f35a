"""Long chats, long replies, fast replies: the page stays smooth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from devtools.harness.deployment import Deployment
from tests.page.person import Person

REPLY = (
    "A **bold** word, `code`, and a list:\n\n- one\n- two\n\n"
    "```python\nprint('three')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |"
)
#: A busy machine takes its time, but not each time.
ROUNDS = 3


@pytest.fixture(scope="module")
def long_chat(write_history: Callable[..., str]) -> str:
    return write_history(250, REPLY)


@pytest.fixture
def reader(chromium: Browser, site: Deployment, long_chat: str) -> Iterator[Person]:
    """Somebody in a chat of 500 messages."""
    person = Person(chromium, site.url()).come_back(long_chat)
    expect(person.page.locator(".turn")).to_have_count(250)
    yield person
    person.leave()


def test_twenty_tokens_a_second_stay_smooth_in_a_chat_of_500_messages(reader: Person) -> None:
    with reader.long_tasks() as slow:
        reader.say("!interval=50 !say=" + f"{REPLY}\n\n{REPLY}".replace("\n", "\\n"))
        expect(reader.page.locator(".turn")).to_have_count(251)
        # To ask what is visible would lay out all that the page need not.
        expect(reader.page.locator(".turn:last-child .foot:not([hidden])")).to_have_count(1)
    expect(reader.page.locator(".turn:last-child td")).to_have_text(["1", "2", "1", "2"])
    assert slow == []


@pytest.mark.parametrize(
    ("order", "end"),
    [("!tokens=19000", " w18995"), ("!tokens=19000 \n```\nlet", " w18994")],
    ids=["100 KB in one paragraph", "100 KB in one line of code"],
)
def test_a_long_reply_is_shown_whole_and_smoothly(ada: Person, order: str, end: str) -> None:
    with ada.long_tasks() as slow:
        expect(ada.ask(order)).to_contain_text(end)
    assert slow == []
    # And again from the history.
    with ada.long_tasks() as slow:
        ada.page.reload()
        expect(ada.replies).to_contain_text(end)
    assert slow == []


def test_a_chat_of_2000_messages_opens_at_once_and_smoothly(
    chromium: Browser, site: Deployment, write_history: Callable[..., str]
) -> None:
    person = Person(chromium, site.url()).come_back(write_history(1000, REPLY))
    with person.long_tasks() as slow:
        person.page.reload()
        expect(person.page.locator(".turn")).to_have_count(1000)
        expect(person.page.locator(".turn").first).to_contain_text("answer 0")
        for height in (0, 20_000, 100_000, 0):
            person.page.locator("#scroller").evaluate("(node, top) => { node.scrollTop = top; }", height)
    took = 0.0
    for _ in range(ROUNDS):
        began = time.monotonic()
        person.page.reload()
        expect(person.replies.last).to_contain_text("answer 999")
        took = time.monotonic() - began
        if took < 1:
            break
    person.leave()
    assert slow == []
    assert took < 1
