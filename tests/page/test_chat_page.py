"""The chat page: questions, replies, refreshes and other tabs, over the real pipeline."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.page_user import PageUser


def test_a_question_gets_an_answer(ada: PageUser) -> None:
    expect(ada.ask("what is this?")).to_contain_text("You said: what is this? .")
    expect(ada.messages).to_have_text(["what is this?"])


def test_a_suggestion_is_sent_as_a_message(ada: PageUser) -> None:
    ada.page.get_by_role("button", name="What is the capital of France?").click()
    expect(ada.replies).to_contain_text("You said: What is the capital of France?")


def test_a_refresh_during_a_reply_loses_and_duplicates_nothing(ada: PageUser) -> None:
    ada.send("!interval=50 !tokens=40 go on for a while")
    expect(ada.replies).to_contain_text("w3")
    ada.draft.fill("typed meanwhile")
    ada.page.reload()
    expect(ada.replies).to_contain_text("w30")
    expect(ada.page.locator(".foot:visible")).to_have_count(1)
    ada.expect_history()
    expect(ada.draft).to_have_value("typed meanwhile")


def test_stop_keeps_the_text_so_far(ada: PageUser) -> None:
    ada.send("!interval=50 !tokens=400 never stop")
    expect(ada.replies).to_contain_text("w3")
    expect(ada.state).to_have_text("Generating")
    ada.page.get_by_role("button", name="Stop the reply").click()
    expect(ada.page.get_by_text("Stopped", exact=True)).to_be_visible()
    expect(ada.page.locator("#stop")).to_be_hidden()
    expect(ada.replies).not_to_contain_text("w390")
    ada.expect_history()


def test_two_tabs_with_the_same_chat_show_the_same(ada: PageUser) -> None:
    ada.ask("the first")
    with ada.context.expect_page() as opened:
        ada.page.evaluate("void window.open('/')")
    other = opened.value.locator(".turn")
    expect(other.locator(".reply .text")).to_contain_text("You said: the first")
    ada.ask("the second")
    expect(other.locator(".said .text").nth(1)).to_have_text("the second")
    expect(other.locator(".reply .text").nth(1)).to_contain_text("You said: the second")
