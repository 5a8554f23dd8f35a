"""The chat page in a real browser, over the real pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import browser, find
from tests.deployment import Deployment
from tests.model_server import ModelServer

#: ms; a busy machine takes its time.
PATIENCE = 30_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = find()
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: .ci/run is to install it")
        pytest.skip("no Chromium on this machine: install it, or set CHROMIUM")
    with browser(executable) as found:
        yield found


@pytest.fixture
def page(chromium: Browser, chat: Deployment) -> Iterator[Page]:
    """The page of somebody called Ada who has begun to chat; it must not write errors to the console."""
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(chat.url())
    page.locator("#name").fill("Ada")
    page.keyboard.press("Enter")
    yield page
    page.close()
    assert errors == []


def say(page: Page, text: str) -> None:
    page.locator("#draft").fill(text)
    page.keyboard.press("Enter")


def test_a_question_gets_an_answer(page: Page) -> None:
    say(page, "what is this?")
    expect(page.locator(".reply .text")).to_contain_text("You said: what is this? .")
    expect(page.locator(".said .text")).to_have_text("what is this?")


def test_a_refresh_in_the_middle_of_a_reply_loses_and_doubles_nothing(page: Page, model: ModelServer) -> None:
    model.control(interval=50, tokens=40)
    say(page, "go on for a while")
    expect(page.locator(".reply .text")).to_contain_text("w3")
    page.reload()
    expect(page.locator(".reply .text")).to_contain_text("w32")
    expect(page.locator(".said:visible")).to_have_count(1)
    expect(page.locator(".reply:visible")).to_have_count(1)


def test_stop_keeps_what_was_said(page: Page, model: ModelServer) -> None:
    model.control(interval=50, tokens=400)
    say(page, "never stop")
    expect(page.locator(".reply .text")).to_contain_text("w3")
    page.locator("#stop").click()
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator(".reply .text")).not_to_contain_text("w399")


def test_markup_is_shown_as_text(page: Page) -> None:
    say(page, "<img src=x onerror=alert(1)>")
    expect(page.locator(".reply .text")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator(".turn img").count() == 0


def test_two_pages_of_one_session_show_the_same(page: Page, chat: Deployment) -> None:
    say(page, "the first")
    expect(page.locator(".reply .text")).to_contain_text("You said: the first")
    with page.context.expect_page() as opened:
        page.evaluate("window.open('/')")
    other = opened.value
    expect(other.locator(".reply .text")).to_contain_text("You said: the first")
    say(page, "the second")
    expect(other.locator(".said .text").nth(1)).to_have_text("the second", timeout=PATIENCE)
    expect(other.locator(".reply .text").nth(1)).to_contain_text("You said: the second")
    other.close()
