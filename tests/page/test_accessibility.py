"""The page for everybody: axe-core, the keyboard alone, a screen reader, less motion."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from tests.page.person import Person

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
RICH = (
    "!say=# Title\\n\\nA [link](https://example.org), **bold** and `code`.\\n\\n```python\\nprint('"
    + "far " * 60
    + "')\\n```\\n\\n- one\\n- two\\n\\n> said\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |\\n\\nمرحبا"
)


def violations(page: Page) -> list[str]:
    """Whatever axe-core finds, as `impact rule: elements`."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['impact']} {rule['id']}: {[node['html'][:120] for node in rule['nodes']]}" for rule in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_axe_finds_nothing(
    chromium: Browser, site: Deployment, model: ModelServer, screen: dict[str, object], scheme: str
) -> None:
    person = Person(chromium, site.url(), color_scheme=scheme, reduced_motion="reduce", **screen)
    page = person.page
    page.goto(site.url())
    found = {"start": violations(page)}
    person.begin()
    found["empty"] = violations(page)
    person.ask(RICH)
    found["conversation"] = violations(page)
    model.fault("unauthorized", 1)
    person.say("fail")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    person.draft.fill("something to send")
    person.page.locator("#more").click()
    found["failed, with the menu"] = violations(page)
    page.keyboard.press("Escape")
    if screen is PHONE:
        page.get_by_role("button", name="Your chats").click()
        expect(page.get_by_role("navigation", name="Chats")).to_be_visible()
        found["list of chats"] = violations(page)
        page.keyboard.press("Escape")
    model.control(first=60_000)
    person.say("wait")
    expect(person.state).to_have_text("Waiting for reply")
    found["waiting"] = violations(page)
    page.locator("#stop").click()
    person.leave()
    assert {view: rules for view, rules in found.items() if rules} == {}


def test_everything_can_be_done_with_the_keyboard(chromium: Browser, site: Deployment) -> None:
    person = Person(chromium, site.url(), viewport={"width": 1440, "height": 900})
    page, press = person.page, person.page.keyboard.press
    page.goto(site.url())
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("Ada")
    press("Enter")
    expect(person.draft).to_be_focused()
    page.keyboard.type("!interval=50 !tokens=400 on and on")
    press("Enter")
    expect(person.replies).to_contain_text("w3")
    press("Tab")
    expect(page.get_by_role("button", name="Stop the reply")).to_be_focused()
    press("Enter")
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    expect(person.draft).to_be_focused()
    page.keyboard.type("!say=```\\ncode\\n```")
    press("Enter")
    expect(page.locator(".foot:visible")).to_have_count(2)
    # Backwards from where one writes: copy the reply, the code, its copying, …
    for name in ("Copy the reply", "Code: code", "Copy code"):
        press("Shift+Tab")
        if name == "Copy the reply":
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
    expect(person.draft).to_be_focused()
    page.locator("#chats button").last.focus()
    press("Enter")
    expect(page.locator(".foot:visible")).to_have_count(2)
    expect(person.draft).to_be_focused()
    person.leave()


def test_the_list_of_chats_on_a_phone_takes_the_focus_and_gives_it_back(chromium: Browser, site: Deployment) -> None:
    person = Person(chromium, site.url(), **PHONE).begin()
    page, opener = person.page, person.page.get_by_role("button", name="Your chats")
    expect(page.get_by_role("navigation")).to_have_count(0)
    opener.click()
    expect(page.locator("#chats [aria-current]")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('#stage') === null")
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(page.get_by_role("navigation")).to_have_count(0)
    person.leave()


def test_a_screen_reader_is_told_of_a_reply_once_it_is_whole(ada: Person) -> None:
    told = ada.page.locator("#announcer[aria-live=polite]")
    ada.page.evaluate(
        """() => {
          window.told = [];
          const watch = records => records.forEach(({ addedNodes }) =>
            addedNodes.forEach(node => window.told.push(node.textContent)));
          new MutationObserver(watch).observe(document.getElementById('announcer'), { childList: true });
        }"""
    )
    ada.ask("!interval=20 !say=## Title\\n\\nSome **bold** words, and `code`.")
    expect(told).to_contain_text("bold")
    assert ada.page.evaluate("window.told") == ["Assistant: Title\nSome bold words, and code."]
    expect(ada.page.get_by_role("log", name="Conversation")).to_be_visible()
    expect(ada.page.get_by_role("article", name="Assistant")).to_be_visible()


def test_nothing_moves_for_those_who_asked_for_less_motion(chromium: Browser, site: Deployment) -> None:
    person = Person(chromium, site.url(), reduced_motion="reduce").begin()
    person.say("!interval=50 !tokens=400 on and on")
    expect(person.replies).to_contain_text("w3")
    assert person.page.evaluate("document.getAnimations().length") == 0
    person.page.locator("#stop").click()
    expect(person.page.get_by_text("Stopped", exact=True)).to_be_visible()
    person.leave()
