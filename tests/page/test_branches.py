"""Edits, regenerations, other paths and ratings."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from devtools.harness.chat_client import history
from tests.support.page_user import PageUser


def versions(user: PageUser, of: str) -> Locator:
    return user.page.get_by_role("group", name=f"Versions of the {of}")


def test_a_reply_can_be_regenerated_and_the_earlier_one_shown_again(ada: PageUser) -> None:
    ada.ask("one")
    ada.page.get_by_role("button", name="Regenerate the reply").click()
    expect(versions(ada, "reply").locator(".place")).to_have_text("2/2")
    expect(ada.page.locator(".foot:visible")).to_have_count(1)
    versions(ada, "reply").get_by_role("button", name="Version before").click()
    expect(versions(ada, "reply").locator(".place")).to_have_text("1/2")
    expect(ada.messages).to_have_text(["one"])


def test_an_edited_message_is_a_branch_in_every_tab(ada: PageUser) -> None:
    ada.ask("one")
    ada.ask("two")
    with ada.context.expect_page() as opened:
        ada.page.evaluate("void window.open('/')")
    other = opened.value.locator(".said:visible .text")
    expect(other).to_have_text(["one", "two"])
    ada.draft.fill("")
    ada.page.keyboard.press("ArrowUp")
    expect(ada.draft).to_have_value("two")
    ada.page.keyboard.press("Escape")
    expect(ada.draft).to_have_value("")
    ada.page.get_by_role("button", name="Edit the message").last.click()
    ada.draft.fill("two, edited")
    ada.page.keyboard.press("Enter")
    for shown in (ada.messages, other):
        expect(shown).to_have_text(["one", "two, edited"])
    expect(ada.page.locator(".foot:visible")).to_have_count(2)
    versions(ada, "message").get_by_role("button", name="Version before").click()
    for shown in (ada.messages, other):
        expect(shown).to_have_text(["one", "two"])
    ada.ask("three")
    ada.page.reload()
    expect(ada.messages).to_have_text(["one", "two", "three"])


def test_a_rating_is_stored_and_withdrawn(ada: PageUser) -> None:
    ada.ask("one")
    good = ada.page.get_by_role("button", name="Good reply")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    ada.page.reload()
    expect(good).to_have_attribute("aria-pressed", "true")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "false")


def test_a_rating_may_have_a_text(eve: PageUser) -> None:
    eve.ask("one")
    eve.page.get_by_role("button", name="Bad reply").click()
    why = eve.page.get_by_label("Why?")
    expect(why).to_be_visible()
    eve.context.set_offline(True)
    expect(eve.state).to_have_text("Offline")
    why.fill("too short")
    why.press("Enter")
    # The text is not lost.
    expect(eve.page.get_by_text("That needs a connection")).to_be_visible()
    expect(why).to_have_value("too short")
    eve.context.set_offline(False)
    expect(eve.state).to_have_text("Connected")
    why.press("Enter")
    expect(eve.page.get_by_text("Thank you for your feedback.")).to_be_visible()
    expect(why).to_be_hidden()
    expect(eve.page.get_by_role("button", name="Bad reply")).to_be_focused()
    (reply,) = (m for m in history(eve.url, eve.token) if m["source"] == "bot")
    assert reply["feedback"] == {"rating": "down", "text": "too short"}


def test_escape_stops_a_reply(ada: PageUser) -> None:
    ada.send("!interval=50 !tokens=400 on and on")
    expect(ada.replies).to_contain_text("w3")
    ada.page.keyboard.press("Escape")
    expect(ada.page.get_by_text("Stopped", exact=True)).to_be_visible()
