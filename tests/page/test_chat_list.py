"""The list of chats: earlier, new, expired and forgotten ones."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from chatbot.sessions.ids import session_id
from devtools.harness.deployment import Deployment, eventually
from tests.support.page_user import PageUser, end_session


def chats(user: PageUser) -> Locator:
    return user.page.locator("#chats .title")


def new_chat(user: PageUser) -> None:
    user.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(user.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    expect(user.state).to_have_text("Connected")


def test_earlier_chats_are_listed_and_can_be_opened(ada: PageUser) -> None:
    ada.ask("the first chat\nwith a second line")
    expect(chats(ada)).to_have_text(["the first chat"])
    ada.draft.fill("for the first")
    new_chat(ada)
    expect(ada.draft).to_have_value("")
    ada.ask("the second chat")
    expect(chats(ada)).to_have_text(["the second chat", "the first chat"])
    ada.page.get_by_role("link", name="the first chat").click()
    expect(ada.replies).to_contain_text("You said: the first chat")
    expect(ada.page.locator(".turn")).to_have_count(1)
    expect(ada.page.locator("#chats [aria-current]")).to_contain_text("the first chat")
    expect(ada.draft).to_have_value("for the first")
    assert "the first chat" in ada.page.title()
    # A refresh opens the same chat.
    ada.page.reload()
    expect(ada.replies).to_contain_text("You said: the first chat")
    expect(chats(ada)).to_have_text(["the second chat", "the first chat"])


def test_a_reply_continues_while_another_chat_is_open(ada: PageUser) -> None:
    ada.send("!interval=50 !tokens=40 go on")
    expect(ada.replies).to_contain_text("w3")
    new_chat(ada)
    ada.ask("something else")
    ada.page.get_by_role("link", name="!interval=50").click()
    expect(ada.replies).to_contain_text("w33")
    ada.expect_history()


def test_an_empty_chat_is_used_for_a_new_one(ada: PageUser) -> None:
    token = ada.token
    ada.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(ada.draft).to_be_focused()
    assert ada.token == token


def test_chats_whose_session_has_ended_are_removed_from_the_list(ada: PageUser, site: Deployment) -> None:
    found_by_opening, found_by_clock = "ended, found by opening", "ended, found by the clock"
    for text in (found_by_opening, found_by_clock):
        ada.ask(text)
        end_session(site, ada.token)
        if text is found_by_clock:
            token = ada.token
        new_chat(ada)
    ada.ask("the living one")
    expect(chats(ada)).to_have_text(["the living one", found_by_clock, found_by_opening])
    ada.page.evaluate(
        """token => {
          const chats = JSON.parse(localStorage.getItem('chat.chats'));
          chats.find(chat => chat.token === token).expires = Date.now() - 1000;
          localStorage.setItem('chat.chats', JSON.stringify(chats));
        }""",
        token,
    )
    ada.page.reload()
    expect(chats(ada)).to_have_text(["the living one", found_by_opening])
    ada.page.get_by_role("link", name=found_by_opening).click()
    expect(ada.page.get_by_text("That chat has expired.")).to_be_visible()
    expect(ada.replies).to_contain_text("You said: the living one")
    expect(chats(ada)).to_have_text(["the living one"])
    # Chromium logs the two HTTP errors.
    assert all("400" in text for text in ada.problems)
    ada.problems.clear()


def forget(user: PageUser) -> None:
    user.page.get_by_role("button", name="More for this chat").click()
    user.page.get_by_role("button", name="Forget this chat").click()
    user.page.get_by_role("button", name="Forget", exact=True).click()
    expect(user.page.get_by_text("The chat is forgotten.")).to_be_visible()


def stored(page: Page) -> str:
    return str(page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])"))


def test_a_chat_can_be_forgotten(ada: PageUser) -> None:
    ada.ask("forget me")
    ada.draft.fill("not even this")
    forgotten = ada.token
    forget(ada)
    expect(chats(ada)).to_have_count(0)
    assert forgotten not in stored(ada.page)
    ada.page.reload()
    ada.page.get_by_label("Your name").fill("Ada")
    ada.page.get_by_role("button", name="Start chatting").click()
    expect(ada.state).to_have_text("Connected")
    expect(ada.draft).to_have_value("")
    expect(chats(ada)).to_have_text(["New chat"])
    assert forgotten not in stored(ada.page)


def test_the_server_deletes_a_forgotten_chat(ada: PageUser, site: Deployment) -> None:
    ada.ask("forget me")
    session = session_id(ada.token)
    forget(ada)
    eventually(lambda: not list(site.client.scan_iter(f"chat:{{{session}}}*")), what="nothing of it is stored")


def test_other_tabs_leave_a_forgotten_chat_and_it_stays_forgotten(ada: PageUser) -> None:
    ada.ask("forget me")
    forgotten = ada.token
    with ada.context.expect_page() as opened:
        ada.page.evaluate("void window.open('/')")
    other = opened.value
    expect(other.locator("#stateText")).to_have_text("Connected")
    other.locator("#draft").fill("typed in the other tab")
    forget(ada)
    expect(other.get_by_text("That chat was forgotten in another tab.")).to_be_visible()
    expect(other.locator("#chats .title")).to_have_count(0)
    assert forgotten not in stored(other)
    # A tab that slept, or that the browser restores, still has the token.
    other.evaluate("token => sessionStorage.setItem('chat.token', token)", forgotten)
    other.reload()
    expect(other.get_by_role("button", name="Start chatting")).to_be_visible()
    assert forgotten not in stored(ada.page)


def test_a_chat_can_be_forgotten_while_the_server_is_down(eve: PageUser, site: Deployment) -> None:
    eve.ask("forget me")
    forgotten = eve.token
    site.webs[0].kill()
    expect(eve.state).to_have_text("Reconnecting")
    forget(eve)
    expect(eve.page.get_by_role("button", name="Start chatting")).to_be_visible()
    expect(eve.page.locator(".turn")).to_have_count(0)
    assert forgotten not in stored(eve.page)


def test_the_shown_chat_stays_when_no_new_one_can_be_created(eve: PageUser, site: Deployment) -> None:
    eve.ask("kept while the server is down")
    site.webs[0].kill()
    expect(eve.state).to_have_text("Reconnecting")
    eve.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(eve.page.locator("#notice")).to_have_text("The server cannot be reached. Try again in a moment.")
    expect(eve.replies).to_contain_text("kept while the server is down")
    site.webs[0].start()
    expect(eve.state).to_have_text("Connected")
    expect(chats(eve)).to_have_text(["kept while the server is down"])


def test_every_chat_has_an_address_that_back_and_forward_follow(ada: PageUser) -> None:
    def address() -> str:
        return f"{ada.url.rstrip('/')}/c/{session_id(ada.token)}"

    ada.ask("the first chat")
    first = address()
    expect(ada.page).to_have_url(first)
    new_chat(ada)
    ada.ask("the second chat")
    expect(ada.page).to_have_url(address())
    ada.page.go_back()
    expect(ada.replies).to_contain_text("You said: the first chat")
    expect(ada.state).to_have_text("Connected")
    ada.page.go_forward()
    expect(ada.replies).to_contain_text("You said: the second chat")
    expect(ada.state).to_have_text("Connected")
    ada.page.goto(first)
    expect(ada.replies).to_contain_text("You said: the first chat")
    expect(ada.state).to_have_text("Connected")
    for unknown in ("0" * 32, "nonsense"):
        ada.page.goto(f"{ada.url.rstrip('/')}/c/{unknown}")
        expect(ada.page.get_by_text("That chat is not on this device.")).to_be_visible()
    expect(chats(ada)).to_have_text(["the second chat", "the first chat"])
    ada.page.get_by_role("button", name="Open your newest chat").click()
    expect(ada.replies).to_contain_text("You said: the second chat")
    expect(ada.page).to_have_url(address())
    ada.page.go_back()
    expect(ada.page.get_by_role("button", name="Start chatting")).to_be_visible()


def test_a_chat_can_be_renamed_and_found_by_its_title_and_its_messages(ada: PageUser) -> None:
    ada.ask("the first chat")
    ada.page.get_by_role("button", name="More for this chat").click()
    ada.page.get_by_role("button", name="Rename this chat").click()
    ada.page.get_by_label("Title").fill("Blue whales")
    ada.page.keyboard.press("Enter")
    expect(ada.page.get_by_role("heading", name="Blue whales")).to_be_visible()
    new_chat(ada)
    ada.ask("the second chat")
    expect(chats(ada)).to_have_text(["the second chat", "Blue whales"])
    ada.page.get_by_label("Search your chats").fill("whale")
    expect(ada.page.locator("#chats li:visible .title")).to_have_text(["Blue whales"])
    ada.page.get_by_label("Search your chats").fill("FIRST said")
    expect(ada.page.locator("#chats li:visible .title")).to_have_text(["Blue whales"])
    ada.page.get_by_label("Search your chats").fill("shark")
    expect(ada.page.get_by_text("No chat has these words.")).to_be_visible()


def test_forgetting_a_chat_opens_the_one_used_before(ada: PageUser) -> None:
    ada.ask("the first chat")
    new_chat(ada)
    ada.ask("the second chat")
    forget(ada)
    expect(ada.replies).to_contain_text("You said: the first chat")
    expect(chats(ada)).to_have_text(["the first chat"])
