"""The composer: sending, line breaks, and messages that come back to be edited."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.page_user import PageUser


def test_enter_sends_and_shift_enter_breaks_the_line(ada: PageUser) -> None:
    ada.draft.press_sequentially("one")
    ada.page.keyboard.press("Shift+Enter")
    ada.draft.press_sequentially("two")
    expect(ada.messages).to_have_count(0)
    ada.page.keyboard.press("Enter")
    expect(ada.messages).to_have_text(["one\ntwo"], use_inner_text=True)
    expect(ada.draft).to_have_value("")
    # What is typed where nothing takes it is meant for the composer.
    ada.page.locator("#scroller").focus()
    ada.page.keyboard.type("more")
    expect(ada.draft).to_have_value("more")


def test_a_message_that_is_too_long_can_be_edited(ada: PageUser) -> None:
    text = "too long " * 1000
    ada.send(text)
    expect(ada.page.locator(".failure:visible")).to_contain_text("the message is too long")
    ada.page.get_by_role("button", name="Edit").click()
    expect(ada.draft).to_have_value(text)
    expect(ada.messages).to_have_count(0)
