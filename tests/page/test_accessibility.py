"""Accessibility: axe-core, the keyboard, screen readers, reduced motion."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment, eventually
from tests.support.page_user import PageUser

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
RICH = (
    "!say=# Title\\n\\nA [link](https://example.org), **bold** and `code`.\\n\\n```python\\nprint('"
    + "far " * 60
    + "')\\n```\\n\\n- one\\n- two\\n\\n> said\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |\\n\\nمرحبا"
)


def violations(page: Page) -> list[str]:
    """What axe-core reports, as `impact rule: elements`."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['impact']} {rule['id']}: {[node['html'][:120] for node in rule['nodes']]}" for rule in found]


# The colours do not depend on the screen.
@pytest.mark.parametrize(("screen", "scheme"), [(PHONE, "dark"), (DESKTOP, "light")], ids=["phone", "desktop"])
def test_axe_finds_nothing(
    chromium: Browser, site: Deployment, model: ModelServer, screen: dict[str, object], scheme: str
) -> None:
    user = PageUser(chromium, site.url(), color_scheme=scheme, reduced_motion="reduce", **screen)
    page = user.page
    page.goto(site.url())
    found = {"start": violations(page)}
    user.start_chat()
    found["empty"] = violations(page)
    user.ask(RICH)
    found["conversation"] = violations(page)
    user.ask("!say=<think>Hm.</think>Yes.")
    page.locator(".thinking summary").click()
    page.get_by_role("button", name="Regenerate the reply").last.click()
    expect(page.get_by_role("group", name="Versions of the reply")).to_contain_text("2/2")
    page.get_by_role("button", name="Bad reply").last.click()
    expect(page.get_by_label("Why?")).to_be_visible()
    page.get_by_role("button", name="Edit the message").last.click()
    found["an edit, a rating, thinking and versions"] = violations(page)
    page.keyboard.press("Escape")
    if screen is PHONE:
        page.locator("#more").click()
        # A phone has no keys.
        expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_hidden()
    else:
        page.keyboard.press("Escape")
        page.locator("#scroller").focus()
        page.keyboard.press("?")
        expect(page.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
        found["keyboard shortcuts"] = violations(page)
    page.keyboard.press("Escape")
    model.fault("unauthorized", 1)
    user.send("fail")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    user.draft.fill("x" * 8001)
    found["too long"] = violations(page)
    user.draft.fill("something to send")
    user.page.locator("#more").click()
    found["failed, with the menu"] = violations(page)
    page.keyboard.press("Escape")
    if screen is PHONE:
        page.get_by_role("button", name="Your chats").click()
        expect(page.get_by_role("navigation", name="Chats")).to_be_visible()
        found["list of chats"] = violations(page)
        page.keyboard.press("Escape")
    model.control(first=60_000)
    user.send("wait")
    expect(user.state).to_have_text("Waiting for reply")
    found["waiting"] = violations(page)
    page.locator("#stop").click()
    user.close()
    assert {view: rules for view, rules in found.items() if rules} == {}


def test_everything_can_be_done_with_the_keyboard(chromium: Browser, site: Deployment) -> None:
    user = PageUser(chromium, site.url(), viewport={"width": 1440, "height": 900})
    page, press = user.page, user.page.keyboard.press
    page.goto(site.url())
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("Ada")
    press("Enter")
    expect(user.draft).to_be_focused()
    page.keyboard.type("!interval=50 !tokens=400 on and on")
    press("Enter")
    expect(user.replies).to_contain_text("w3")
    press("Tab")
    expect(page.get_by_role("button", name="Stop the reply")).to_be_focused()
    press("Enter")
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    expect(user.draft).to_be_focused()
    page.keyboard.type("!say=```\\ncode\\n```")
    press("Enter")
    expect(page.locator(".foot:visible")).to_have_count(2)
    # Backwards from the composer.
    replies = ("Bad reply", "Good reply", "Regenerate the reply", "Copy the reply")
    for name in (*replies, "Code: code", "Copy code"):
        press("Shift+Tab")
        if name in replies:
            expect(page.get_by_role("button", name=name).last).to_be_focused()
        else:
            expect(page.get_by_label(name, exact=True)).to_be_focused()
    page.locator("#more").focus()
    press("Enter")
    press("Tab")
    expect(page.get_by_role("button", name="Export as Markdown")).to_be_focused()
    press("Escape")
    expect(page.locator("#more")).to_be_focused()
    expect(page.locator("#menu")).to_be_hidden()
    page.locator("#newChat").focus()
    press("Enter")
    expect(page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    expect(user.draft).to_be_focused()
    page.locator("#chats a").last.focus()
    press("Enter")
    expect(page.locator(".foot:visible")).to_have_count(2)
    expect(user.draft).to_be_focused()
    user.close()


def test_what_stands_out_of_a_turn_is_drawn_with_its_focus_ring(ada: PageUser) -> None:
    ada.ask("hello")
    ring = "node => parseFloat(getComputedStyle(node).outlineWidth) + parseFloat(getComputedStyle(node).outlineOffset)"
    turn = ada.page.locator(".turn").last.bounding_box()
    assert turn is not None
    for button in ada.page.locator(".turn button:visible").all():
        button.focus()
        box = button.bounding_box()
        assert box is not None
        assert box["x"] - button.evaluate(ring) >= turn["x"]
        assert box["x"] + box["width"] + button.evaluate(ring) <= turn["x"] + turn["width"]


def test_the_list_of_chats_on_a_phone_takes_the_focus_and_returns_it(chromium: Browser, site: Deployment) -> None:
    user = PageUser(chromium, site.url(), **PHONE).start_chat()
    page, opener = user.page, user.page.get_by_role("button", name="Your chats")
    expect(page.get_by_role("navigation")).to_have_count(0)
    opener.click()
    expect(page.locator("#chats [aria-current]")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#stage') === null")
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(page.get_by_role("navigation")).to_have_count(0)
    # Back closes the list, and does nothing else after a refresh.
    opener.click()
    page.go_back()
    expect(page.get_by_role("navigation")).to_have_count(0)
    opener.click()
    page.reload()
    expect(user.state).to_have_text("Connected")
    eventually(lambda: page.evaluate("window.history.state") is None, what="the list's entry of the history is gone")
    # An on-screen keyboard has no Shift + Enter.
    user.draft.fill("one")
    page.keyboard.press("Enter")
    page.keyboard.type("two")
    page.get_by_role("button", name="Send").click()
    expect(user.messages).to_have_text("one\ntwo")
    expect(page.locator(".foot:visible")).to_have_count(1)
    user.close()


def test_a_reply_is_announced_to_screen_readers_once_when_it_is_complete(ada: PageUser) -> None:
    announced = ada.page.locator("#announcer[aria-live=polite]")
    ada.page.evaluate(
        """() => {
          window.announced = [];
          const watch = records => records.forEach(({ addedNodes }) =>
            addedNodes.forEach(node => window.announced.push(node.textContent)));
          new MutationObserver(watch).observe(document.getElementById('announcer'), { childList: true });
        }"""
    )
    ada.ask("!interval=20 !say=## Title\\n\\nSome **bold** words, and `code`.")
    expect(announced).to_contain_text("bold")
    assert ada.page.evaluate("window.announced") == ["Assistant: Title\nSome bold words, and code."]
    expect(ada.page.get_by_role("log", name="Conversation")).to_be_visible()
    expect(ada.page.get_by_role("article", name="Assistant")).to_be_visible()


def test_text_of_twice_the_size_leaves_everything_in_reach_on_a_phone(chromium: Browser, site: Deployment) -> None:
    user = PageUser(chromium, site.url(), **PHONE).start_chat()
    page = user.page
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    user.ask("!say=one")
    page.locator("#more").click()
    names = ["Export as Markdown", "System", "Dark", "Forget this chat", "Bad reply", "New chat", "Your chats"]
    controls = [page.get_by_role("button", name=name, exact=True).last for name in names]
    for control in [*controls, page.locator("#stateText")]:
        box = control.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    state, new = page.locator("#stateText").bounding_box(), page.locator("#newHere").bounding_box()
    assert state is not None
    assert new is not None
    assert state["x"] + state["width"] <= new["x"]
    user.close()


def test_a_chat_is_printed_dark_on_white_whatever_the_theme(ada: PageUser) -> None:
    ada.page.locator("#more").click()
    ada.page.get_by_role("button", name="Dark").click()
    colour = "getComputedStyle(document.body).color"
    assert ada.page.evaluate(colour) == "rgb(231, 235, 233)"
    ada.page.emulate_media(media="print")
    assert ada.page.evaluate(colour) == "rgb(27, 33, 31)"


def test_nothing_moves_with_reduced_motion(chromium: Browser, site: Deployment) -> None:
    user = PageUser(chromium, site.url(), reduced_motion="reduce").start_chat()
    user.send("!interval=50 !tokens=400 on and on")
    expect(user.replies).to_contain_text("w3")
    assert user.page.evaluate("document.getAnimations().length") == 0
    user.page.locator("#stop").click()
    expect(user.page.get_by_text("Stopped", exact=True)).to_be_visible()
    user.close()
