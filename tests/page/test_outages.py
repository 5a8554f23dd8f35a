"""Whatever is killed, frozen or cut off while the page is open: it recovers by itself and shows each message once."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import Browser, expect

from devtools.harness.chat_client import history
from devtools.harness.deployment import Deployment, eventually
from tests.page.person import Person, end_session

LONG = "!interval=50 !tokens=45 go on"


@pytest.mark.parametrize("victim", ["web", "worker", "redis"])
def test_a_kill_in_the_middle_of_a_reply_is_got_over(eve: Person, site: Deployment, victim: str) -> None:
    eve.ask("before")
    eve.say(LONG)
    expect(eve.replies.last).to_contain_text("w5")
    eve.draft.fill("being typed")
    process = {"web": site.webs[0], "worker": site.workers[0], "redis": site.redis}[victim]
    process.kill()
    if victim == "web":
        expect(eve.state).to_have_text("Reconnecting")
    process.start()
    expect(eve.replies.last).to_contain_text("w38")
    expect(eve.page.locator(".foot:visible")).to_have_count(2)
    expect(eve.draft).to_have_value("being typed")
    expect(eve.state).to_have_text("Connected")
    eve.page.keyboard.press("Enter")
    expect(eve.replies.last).to_contain_text("You said: being typed")
    eve.sees_all_once()


def test_a_message_written_while_the_server_is_away_is_sent_when_it_is_back(eve: Person, site: Deployment) -> None:
    site.webs[0].kill()
    expect(eve.state).to_have_text("Reconnecting")
    eve.say("is anybody there?")
    expect(eve.page.get_by_text("Sending")).to_be_visible()
    site.webs[0].start()
    expect(eve.replies).to_contain_text("You said: is anybody there?")
    eve.sees_all_once()


def test_a_message_that_the_store_could_not_take_is_sent_again_by_itself(eve: Person, site: Deployment) -> None:
    site.redis.kill()
    eve.say("is anybody there?")
    eventually(lambda: "a frame could not be carried out" in site.webs[0].log, 30, "the message was refused")
    site.redis.start()
    expect(eve.replies).to_contain_text("You said: is anybody there?")
    expect(eve.page.locator(".failure:visible")).to_have_count(0)
    eve.sees_all_once()


def test_an_unsent_message_is_kept_over_a_refresh(eve: Person, site: Deployment) -> None:
    site.redis.kill()
    eve.say("not yet")
    eve.page.reload()
    expect(eve.sayings).to_have_text(["not yet"])
    site.redis.start()
    expect(eve.replies).to_contain_text("You said: not yet")
    eve.sees_all_once()


def test_a_lost_network_is_noticed_and_got_over(eve: Person) -> None:
    eve.say(LONG)
    expect(eve.replies).to_contain_text("w5")
    # The old connection may be dead without having said so, therefore a new one.
    with eve.page.expect_websocket():
        eve.context.set_offline(True)
        eve.context.set_offline(False)
    expect(eve.page.locator(".foot:visible")).to_have_count(1)
    eve.sees_all_once()


def test_a_computer_that_slept_catches_up(eve: Person, chromium: Browser, site: Deployment) -> None:
    """The whole browser is frozen, so that it misses the end of its connection, and of the reply."""
    eve.say(LONG)
    expect(eve.replies).to_contain_text("w5")
    token = eve.token
    devtools = chromium.new_browser_cdp_session()
    pids = [int(process["id"]) for process in devtools.send("SystemInfo.getProcessInfo")["processInfo"]]
    devtools.detach()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        site.webs[0].restart()
        eventually(site.ready, 30, "the web process is back")
        eventually(lambda: len(history(site.url(), token)) == 2, 30, "the reply is whole")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    expect(eve.page.locator(".foot:visible")).to_have_count(1)
    eve.sees_all_once()


def test_a_chat_that_expired_can_still_be_read(eve: Person, site: Deployment) -> None:
    eve.ask("remember this")
    eve.draft.fill("half a thought")
    end_session(site, eve.token)
    site.webs[0].restart()
    expect(eve.state).to_have_text("Chat expired")
    expect(eve.replies).to_contain_text("You said: remember this")
    expect(eve.draft).to_have_value("half a thought")
    eve.page.get_by_role("button", name="Start a new chat").click()
    expect(eve.state).to_have_text("Connected")
    expect(eve.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    expect(eve.page.locator("#chats").get_by_role("button")).to_have_count(1)
    expect(eve.draft).to_have_value("half a thought")


@pytest.mark.parametrize("reloaded", [False, True])
def test_what_an_expired_chat_could_not_take_goes_into_the_next_one(
    eve: Person, site: Deployment, reloaded: bool
) -> None:
    eve.ask("remember this")
    end_session(site, eve.token)
    eve.say("a long thought")
    expect(eve.page.get_by_text("Not sent: the chat has expired.")).to_be_visible()
    eve.draft.fill("and another")
    if reloaded:
        eve.page.reload()
        eve.page.get_by_role("button", name="Start chatting").click()
    else:
        eve.page.get_by_role("button", name="Start a new chat").click()
    expect(eve.state).to_have_text("Connected")
    expect(eve.draft).to_have_value("a long thought\n\nand another")
    # It is taken along once.
    eve.ask("done with it")
    eve.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(eve.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    expect(eve.draft).to_have_value("")
