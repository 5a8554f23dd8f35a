"""The conversation on the page: scrolling."""

from __future__ import annotations

from playwright.sync_api import expect

from devtools.harness.deployment import eventually
from tests.support.page_user import PageUser


def test_the_view_follows_the_text_until_the_user_scrolls_up(ada: PageUser) -> None:
    left = (
        "() => { const s = document.getElementById('scroller'); return s.scrollHeight - s.scrollTop - s.clientHeight }"
    )
    ada.ask("!tokens=2000 fill the page")
    ada.send("!interval=20 !say=" + "line\\n\\n" * 60)
    expect(ada.replies.last).to_contain_text("line")
    eventually(lambda: ada.page.evaluate(left) < 50, what="the view follows")
    ada.page.locator("#scroller").hover()
    ada.page.mouse.wheel(0, -600)
    jump = ada.page.get_by_role("button", name="Jump to latest")
    expect(jump).to_be_visible()
    expect(ada.page.locator(".foot:visible")).to_have_count(2)
    assert ada.page.evaluate(left) > 400
    jump.click()
    expect(jump).to_be_hidden()
    eventually(lambda: ada.page.evaluate(left) < 50, what="the latest is shown")
