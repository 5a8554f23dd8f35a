"""Earlier chats in their list, new ones, forgotten ones, and chats as files."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from devtools.harness.chat_client import history
from devtools.harness.deployment import Deployment
from tests.page.person import Person, end_session


def chats(person: Person) -> Locator:
    return person.page.locator("#chats .title")


def new_chat(person: Person) -> None:
    person.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(person.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    expect(person.state).to_have_text("Connected")


def test_earlier_chats_are_listed_and_can_be_gone_back_to(ada: Person) -> None:
    ada.ask("the first chat\nwith a second line")
    expect(chats(ada)).to_have_text(["the first chat"])
    ada.draft.fill("for the first")
    new_chat(ada)
    expect(ada.draft).to_have_value("")
    ada.ask("the second chat")
    expect(chats(ada)).to_have_text(["the second chat", "the first chat"])
    ada.page.get_by_role("button", name="the first chat").click()
    expect(ada.replies).to_contain_text("You said: the first chat")
    expect(ada.page.locator(".turn")).to_have_count(1)
    expect(ada.page.locator("#chats [aria-current]")).to_contain_text("the first chat")
    expect(ada.draft).to_have_value("for the first")
    assert "the first chat" in ada.page.title()
    # A refresh stays in this chat; another tab begins with it.
    ada.page.reload()
    expect(ada.replies).to_contain_text("You said: the first chat")
    expect(chats(ada)).to_have_text(["the second chat", "the first chat"])


def test_a_reply_goes_on_while_another_chat_is_looked_at(ada: Person) -> None:
    ada.say("!interval=50 !tokens=40 go on")
    expect(ada.replies).to_contain_text("w3")
    new_chat(ada)
    ada.ask("something else")
    ada.page.get_by_role("button", name="!interval=50").click()
    expect(ada.replies).to_contain_text("w33")
    ada.sees_all_once()


def test_an_empty_chat_is_not_begun_twice(ada: Person) -> None:
    token = ada.token
    ada.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(ada.draft).to_be_focused()
    assert ada.token == token


def test_chats_whose_session_has_ended_leave_the_list(ada: Person, site: Deployment) -> None:
    ended, known_to_have_ended = "opened too late", "ended by the clock"
    for text in (ended, known_to_have_ended):
        ada.ask(text)
        end_session(site, ada.token)
        if text is known_to_have_ended:
            token = ada.token
        new_chat(ada)
    ada.ask("the living one")
    expect(chats(ada)).to_have_text(["the living one", known_to_have_ended, ended])
    ada.page.evaluate(
        """token => {
          const chats = JSON.parse(localStorage.getItem('chat.chats'));
          chats.find(chat => chat.token === token).expires = Date.now() - 1000;
          localStorage.setItem('chat.chats', JSON.stringify(chats));
        }""",
        token,
    )
    ada.page.reload()
    expect(chats(ada)).to_have_text(["the living one", ended])
    ada.page.get_by_role("button", name=ended).click()
    expect(ada.page.get_by_text("That chat has expired.")).to_be_visible()
    ada.page.get_by_role("button", name="Start chatting").click()
    expect(ada.state).to_have_text("Connected")
    expect(chats(ada)).to_have_text(["New chat", "the living one"])
    # The browser notes the two refusals, as it does with any.
    assert all("400" in text for text in ada.trouble)
    ada.trouble.clear()


def forget(person: Person) -> None:
    person.page.get_by_role("button", name="More for this chat").click()
    person.page.get_by_role("button", name="Forget this chat").click()
    person.page.get_by_role("button", name="Forget", exact=True).click()
    expect(person.page.get_by_text("The chat is forgotten.")).to_be_visible()


def stored(page: Page) -> str:
    return str(page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])"))


def test_a_chat_can_be_forgotten(ada: Person) -> None:
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


def test_a_forgotten_chat_is_left_by_other_tabs_and_stays_forgotten(ada: Person) -> None:
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
    # A tab that was asleep, or is restored by the browser, still knows the token.
    other.evaluate("token => sessionStorage.setItem('chat.token', token)", forgotten)
    other.reload()
    expect(other.get_by_role("button", name="Start chatting")).to_be_visible()
    assert forgotten not in stored(ada.page)


def test_a_chat_can_be_forgotten_while_the_server_is_away(eve: Person, site: Deployment) -> None:
    eve.ask("forget me")
    forgotten = eve.token
    site.webs[0].kill()
    expect(eve.state).to_have_text("Reconnecting")
    forget(eve)
    expect(eve.page.get_by_role("button", name="Start chatting")).to_be_visible()
    expect(eve.page.locator(".turn")).to_have_count(0)
    assert forgotten not in stored(eve.page)


def export(person: Person, kind: str) -> tuple[str, str]:
    """The name and the text of the file."""
    person.page.get_by_role("button", name="More for this chat").click()
    with person.page.expect_download() as download:
        person.page.get_by_role("button", name=f"Export as {kind}").click()
    return download.value.suggested_filename, Path(download.value.path()).read_text("utf-8")


def test_a_chat_is_exported_as_markdown_and_as_json(eve: Person, site: Deployment) -> None:
    eve.ask("!say=# Title\\n\\n**bold** 🙂")
    eve.ask("مرحبا?")
    messages = history(eve.url, eve.token)
    name, text = export(eve, "JSON")
    assert name == "say-title-n-n-bold.json"
    document = json.loads(text)
    assert document["name"] == "Ada"
    assert document["session_start"].endswith("Z")
    assert document["messages"] == messages
    assert eve.token not in text
    name, text = export(eve, "Markdown")
    assert name == "say-title-n-n-bold.md"
    assert text.startswith("# !say=\\# Title")
    places = [text.index(message["msg"]) for message in messages]
    assert places == sorted(places)
    assert text.count("**Ada** (") == text.count("**Assistant** (") == 2
    # Also without a server.
    site.webs[0].kill()
    expect(eve.state).to_have_text("Reconnecting")
    document = json.loads(export(eve, "JSON")[1])
    assert [message["msg"] for message in document["messages"]] == [message["msg"] for message in messages]
    assert [set(message) for message in document["messages"]] == [set(message) for message in messages]
    site.webs[0].start()
    expect(eve.state).to_have_text("Connected")


MARKDOWN = """
async ([base, messages, failed]) => {
  const { Conversation } = await import(base + 'conversation.js');
  const { toMarkdown } = await import(base + 'export.js');
  const conversation = new Conversation();
  conversation.merge(messages);
  conversation.fail(conversation.get(failed), { code: 'model_error' });
  return toMarkdown({ name: '*Ada* <b>', begun: null, conversation }, messages, '[title](x)\\n# two');
}
"""


def test_an_exported_chat_reads_in_turns_whatever_its_texts_hold(ada: Person) -> None:
    def human(number: int) -> dict[str, str | None]:
        return {"id": f"m{number}", "source": "human", "msg": f"question {number}", "timestamp": "T", "reply_to": None}

    def bot(number: int, text: str, reason: str) -> dict[str, str | None]:
        about = {"timestamp": "T", "reply_to": f"m{number}", "finish_reason": reason}
        return {"id": f"r{number}", "source": "bot", "msg": text, **about}

    messages = [
        *[human(number) for number in (1, 2, 3, 4)],
        bot(1, "Look:\n````python\n```\nprint(", "length"),
        bot(3, "- so:\n  ~~~\n  half", "stopped"),
        bot(4, "```\nwhole\n```", "stop"),
    ]
    said = "**\\*Ada\\* \\<b\\>** (T)\n\nquestion"
    assert ada.page.evaluate(MARKDOWN, [ada.modules, messages, "m2"]).split("\n\n---\n\n") == [
        f"# \\[title\\](x) \\# two\n\n{said} 1",
        "**Assistant** (T)\n\nLook:\n````python\n```\nprint(\n````\n\n*Ended at the length limit.*",
        f"{said} 2",
        "*The reply failed.*",
        f"{said} 3",
        "**Assistant** (T)\n\n- so:\n  ~~~\n  half\n  ~~~\n\n*Stopped.*",
        f"{said} 4",
        "**Assistant** (T)\n\n```\nwhole\n```\n",
    ]


def test_a_new_chat_that_cannot_be_begun_takes_nothing_away(eve: Person, site: Deployment) -> None:
    eve.ask("kept though the server is away")
    site.webs[0].kill()
    expect(eve.state).to_have_text("Reconnecting")
    eve.page.get_by_role("button", name="New chat", exact=True).first.click()
    expect(eve.page.locator("#notice")).to_have_text("The server cannot be reached. Try again in a moment.")
    expect(eve.replies).to_contain_text("kept though the server is away")
    site.webs[0].start()
    expect(eve.state).to_have_text("Connected")
    expect(chats(eve)).to_have_text(["kept though the server is away"])
