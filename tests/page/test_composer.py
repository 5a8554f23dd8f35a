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
    hint = ada.page.get_by_text("Enter to send, Shift + Enter for a new line", exact=True)
    expect(hint).to_be_visible()
    # As wide as a phone, whatever it says of its pointer.
    ada.page.set_viewport_size({"width": 390, "height": 780})
    expect(hint).to_be_hidden()


def test_the_composer_says_by_how_much_a_message_is_too_long(ada: PageUser) -> None:
    length, send = ada.page.locator("#length"), ada.page.get_by_role("button", name="Send", exact=True)
    # Code points count, as they do for the server.
    ada.draft.fill("🙂" * 7200)
    expect(length).to_be_hidden()
    ada.draft.fill("🙂" * 7201)
    expect(length).to_have_text("7,201 of 8,000 characters")
    expect(send).to_be_enabled()
    ada.draft.fill("x" * 8001)
    expect(length).to_have_text("Too long by 1: a message may have 8,000 characters.")
    expect(ada.draft).to_have_attribute("aria-invalid", "true")
    ada.page.keyboard.press("Enter")
    expect(send).to_be_disabled()
    ada.page.keyboard.press("Backspace")
    expect(length).to_have_text("8,000 of 8,000 characters")
    ada.page.keyboard.press("Enter")
    expect(ada.messages).to_have_text(["x" * 8000])
    expect(length).to_be_hidden()


def test_a_message_that_the_server_finds_too_long_can_be_edited(ada: PageUser) -> None:
    # The page is older than the server, whose limit was higher.
    ada.draft.evaluate("field => { field.dataset.longest = 9000; }")
    text = "too long " * 1000
    ada.send(text)
    expect(ada.page.locator(".failure:visible p")).to_have_text(
        "Not sent: the message is too long. A message has at most 8000 characters."
    )
    ada.page.get_by_role("button", name="Edit").click()
    expect(ada.draft).to_have_value(text)
    expect(ada.messages).to_have_count(0)
