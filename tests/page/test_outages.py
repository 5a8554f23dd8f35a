"""Processes are killed, frozen or disconnected: the page recovers by itself and shows every message once."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import Browser, expect

from chatbot.sessions.ids import session_id
from chatbot.store.keys import session_keys
from devtools.harness.chat_client import history
from devtools.harness.deployment import Deployment, eventually
from tests.support.page_user import NO_CONNECTION_OR_EXPIRED, PageUser, end_session

LONG = "!interval=50 !tokens=45 go on"
#: Long enough to be killed in its middle, and its last words.
CUT_OFF, END = "!interval=50 !tokens=30 go on", "w23"


def test_two_browsers_show_one_reply_to_each_request_and_the_same_tree_whatever_is_killed(
    eve: PageUser, chromium: Browser, site: Deployment
) -> None:
    eve.ask("!tokens=40 go on")
    other = PageUser(chromium, site.url()).return_to(eve.token)

    def edit() -> None:
        eve.page.get_by_role("button", name="Edit the message").last.click()
        eve.send(CUT_OFF)

    def regenerate() -> None:
        eve.page.get_by_role("button", name="Regenerate the reply").last.click()

    for act, victim, places in (
        (edit, site.redis, ["2/2"]),
        (edit, site.workers[0], ["3/3"]),
        (regenerate, site.webs[0], ["3/3", "2/2"]),
    ):
        act()
        expect(other.page.locator(".place:visible")).to_have_text(places)
        expect(other.replies.last).to_contain_text("w3")
        eve.draft.fill("being typed")
        victim.kill()
        if victim is site.webs[0]:
            expect(eve.state).to_have_text("Reconnecting")
        victim.start()
        for user in (eve, other):
            expect(user.replies.last).to_contain_text(END)
            expect(user.page.locator(".foot:visible")).to_have_count(1)
        expect(eve.draft).to_have_value("being typed")
        expect(eve.state).to_have_text("Connected")
        eve.draft.fill("")
    messages = history(site.url(), eve.token)
    asked = {message["id"] for message in messages if message["source"] == "human"}
    answered = [message.get("request", message["reply_to"]) for message in messages if message["source"] == "bot"]
    assert (len(asked), len(answered), len(set(answered))) == (3, 4, 4)
    assert asked <= set(answered)
    for user in (eve, other):
        user.page.reload()
        expect(user.page.locator(".turn:visible .place:visible")).to_have_text(["3/3", "2/2"])
        expect(user.replies.last).to_contain_text(END)
    eve.send("being typed")
    for user in (eve, other):
        expect(user.replies.last).to_contain_text("You said: being typed")
    other.close(allowed=NO_CONNECTION_OR_EXPIRED)


def test_a_message_written_while_the_server_is_down_is_sent_later(eve: PageUser, site: Deployment) -> None:
    site.webs[0].kill()
    expect(eve.state).to_have_text("Reconnecting")
    eve.send("is anybody there?")
    expect(eve.page.get_by_text("Waiting for the connection")).to_be_visible()
    eve.draft.press("Shift+Tab")
    now = eve.page.get_by_role("button", name="Try now")
    now.focus()
    site.webs[0].start()
    # The button that goes does not take the focus with it.
    expect(now).to_be_hidden()
    expect(eve.draft).to_be_focused()
    expect(eve.replies).to_contain_text("You said: is anybody there?")
    eve.expect_history()


def test_a_message_that_could_not_be_stored_is_sent_again_by_itself(eve: PageUser, site: Deployment) -> None:
    site.redis.kill()
    eve.send("is anybody there?")
    eventually(lambda: "a frame could not be carried out" in site.webs[0].log, what="the message was refused")
    site.redis.start()
    expect(eve.replies).to_contain_text("You said: is anybody there?")
    expect(eve.page.locator(".failure:visible")).to_have_count(0)
    eve.expect_history()


def test_an_unsent_message_survives_a_refresh(eve: PageUser, site: Deployment) -> None:
    site.redis.kill()
    eve.send("not yet")
    eve.page.reload()
    expect(eve.messages).to_have_text(["not yet"])
    site.redis.start()
    expect(eve.replies).to_contain_text("You said: not yet")
    eve.expect_history()


def test_the_page_reconnects_after_a_loss_of_the_network(eve: PageUser) -> None:
    eve.send(LONG)
    expect(eve.replies).to_contain_text("w5")
    # The old connection may be dead without a close event, so the page opens another.
    with eve.page.expect_websocket():
        eve.context.set_offline(True)
        eve.context.set_offline(False)
    expect(eve.page.locator(".foot:visible")).to_have_count(1)
    eve.expect_history()


def test_a_computer_that_slept_catches_up(eve: PageUser, chromium: Browser, site: Deployment) -> None:
    """The browser is frozen, so that it misses the end of its connection and of the reply."""
    eve.send(LONG)
    expect(eve.replies).to_contain_text("w5")
    token = eve.token
    devtools = chromium.new_browser_cdp_session()
    pids = [int(process["id"]) for process in devtools.send("SystemInfo.getProcessInfo")["processInfo"]]
    devtools.detach()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        site.webs[0].restart()
        eventually(site.ready, what="the web process is ready")
        eventually(lambda: len(history(site.url(), token)) == 2, what="the reply is complete")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    expect(eve.page.locator(".foot:visible")).to_have_count(1)
    eve.expect_history()


def test_an_expired_chat_can_still_be_read(eve: PageUser, site: Deployment) -> None:
    eve.ask("remember this")
    eve.draft.fill("half a thought")
    end_session(site, eve.token)
    site.webs[0].restart()
    expect(eve.state).to_have_text("Chat expired")
    expect(eve.replies).to_contain_text("You said: remember this")
    expect(eve.draft).to_have_value("half a thought")
    expect(eve.draft).to_have_attribute("placeholder", "What you write begins a new chat")
    eve.page.get_by_role("button", name="Start a new chat").click()
    expect(eve.state).to_have_text("Connected")
    expect(eve.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    expect(eve.page.locator("#chats").get_by_role("link")).to_have_count(1)
    expect(eve.draft).to_have_value("half a thought")
    expect(eve.draft).to_have_attribute("placeholder", "Write a message")


def test_a_damaged_chat_says_so_instead_of_trying_for_ever(eve: PageUser, site: Deployment) -> None:
    eve.ask("remember this")
    site.client.json().set(session_keys(session_id(eve.token)).document, "$.messages", {})
    eve.send("and now?")
    expect(eve.page.get_by_text("This chat can no longer be read: start a new one")).to_be_visible()
    site.webs[0].restart()
    expect(eve.state).to_have_text("Chat cannot be read")
    expect(eve.page.get_by_text("can no longer be loaded")).to_be_visible()
    expect(eve.page.locator("#chats").get_by_role("link")).to_have_count(1)


@pytest.mark.parametrize("reloaded", [False, True])
def test_unsent_text_of_an_expired_chat_is_put_into_the_next_one(
    eve: PageUser, site: Deployment, reloaded: bool
) -> None:
    eve.ask("remember this")
    end_session(site, eve.token)
    eve.send("a long thought")
    expect(eve.page.get_by_text("Not sent: the chat has expired.")).to_be_visible()
    eve.draft.fill("and another")
    if reloaded:
        eve.page.reload()
        eve.page.get_by_role("button", name="Start chatting").click()
    else:
        eve.page.get_by_role("button", name="Start a new chat").click()
    expect(eve.state).to_have_text("Connected")
    expect(eve.draft).to_have_value("a long thought\n\nand another")
    # Only the first new chat gets it.
    eve.ask("done with it")
    eve.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(eve.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    expect(eve.draft).to_have_value("")
