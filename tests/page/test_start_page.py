"""The start page: the name, and what happens when no session can be created."""

from __future__ import annotations

from playwright.sync_api import Browser, Route, expect

from devtools.harness.deployment import Deployment
from tests.support.page_user import NO_CONNECTION, PageUser


def test_the_start_page_asks_for_a_name_and_reports_an_unreachable_server(chromium: Browser, site: Deployment) -> None:
    user = PageUser(chromium, site.url())
    held: list[Route] = []

    def hold_back(route: Route) -> None:
        held.append(route)

    user.page.route("**/main.js", hold_back)
    with user.page.expect_request("**/main.js"):
        user.page.goto(site.url(), wait_until="commit")
    # The form is there before the modules, and what is done with it then counts.
    user.page.get_by_role("button", name="Start chatting").click()
    held[0].continue_()
    expect(user.page.locator("#startError")).to_have_text("Please write your name.")
    expect(user.page.get_by_label("Your name")).to_be_focused()
    user.page.get_by_label("Your name").fill("Ada")
    user.context.set_offline(True)
    user.page.get_by_role("button", name="Start chatting").click()
    expect(user.page.locator("#startError")).to_have_text("The server cannot be reached. Try again in a moment.")
    expect(user.page.get_by_label("Your name")).to_have_value("Ada")
    user.context.set_offline(False)
    user.page.get_by_role("button", name="Start chatting").click()
    expect(user.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    user.close(allowed=NO_CONNECTION)


def test_the_start_page_explains_why_a_name_was_rejected(ada: PageUser) -> None:
    ada.page.evaluate("localStorage.clear(); sessionStorage.clear()")
    ada.page.reload()
    for name in ("A\u0007da", "\u200b"):
        ada.page.get_by_label("Your name").fill(name)
        ada.page.get_by_role("button", name="Start chatting").click()
        expect(ada.page.locator("#startError")).to_have_text(
            "This name cannot be used. Please write one of up to 64 ordinary characters."
        )
        ada.page.reload()
    # Chromium logs the HTTP errors.
    assert all("400" in text for text in ada.problems)
    ada.problems.clear()
