"""Copying replies and code, with and without the Clipboard API."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from devtools.harness.deployment import Deployment
from tests.support.page_user import PageUser


def test_a_reply_can_be_copied_as_it_was_written(ada: PageUser) -> None:
    ada.ask("!say=**bold** and `code`")
    ada.page.get_by_role("button", name="Copy the reply").click()
    expect(ada.page.locator("[data-act=copy]:visible")).to_have_text("Copied")
    assert ada.page.evaluate("navigator.clipboard.readText()") == "**bold** and `code`"


def test_copying_works_without_the_clipboard_api(chromium: Browser, site: Deployment) -> None:
    user = PageUser(chromium, site.url())
    user.page.add_init_script("delete Navigator.prototype.clipboard")
    user.start_chat().ask("!say=over plain HTTP")
    user.page.get_by_role("button", name="Copy the reply").click()
    expect(user.page.locator("[data-act=copy]:visible")).to_have_text("Copied")
    user.draft.focus()
    user.page.keyboard.press("Control+V")
    expect(user.draft).to_have_value("over plain HTTP")
    user.close()


def test_code_can_be_copied(ada: PageUser) -> None:
    reply = ada.ask("!say=Do this:\\n\\n```python\\nif True:\\n    <b>pass</b>\\n```\\n\\nand be done.")
    expect(reply.locator(".code-bar span")).to_have_text("python")
    reply.get_by_role("button", name="Copy code").click()
    expect(reply.locator(".copy-code")).to_have_text("Copied")
    assert ada.page.evaluate("navigator.clipboard.readText()") == "if True:\n    <b>pass</b>"
