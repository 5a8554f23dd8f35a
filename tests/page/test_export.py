"""Chats exported as Markdown and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import expect

from devtools.harness.chat_client import history
from devtools.harness.deployment import Deployment
from tests.support.page_user import PageUser


def export(user: PageUser, kind: str) -> tuple[str, str]:
    """Exports the chat and returns the file's name and text."""
    user.page.get_by_role("button", name="More for this chat").click()
    with user.page.expect_download() as download:
        user.page.get_by_role("button", name=f"Export as {kind}").click()
    return download.value.suggested_filename, Path(download.value.path()).read_text("utf-8")


def test_a_chat_is_exported_as_markdown_and_as_json(eve: PageUser, site: Deployment) -> None:
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
    # Without the server the page exports its own messages.
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


def test_markdown_has_each_message_with_its_reply_and_keeps_code_blocks_apart(ada: PageUser) -> None:
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
        {**bot(4, "again", "stop"), "id": "r5", "request": "q5"},
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
        "**Assistant** 1/2 (T)\n\n```\nwhole\n```",
        "**Assistant** 2/2 (T)\n\nagain\n",
    ]


DROP = """
(text) => {
  const files = new DataTransfer();
  files.items.add(new File([text], 'chat.json', { type: 'application/json' }));
  const options = { dataTransfer: files, bubbles: true, cancelable: true };
  const drop = (type) => document.dispatchEvent(new DragEvent(type, options));
  drop('dragover');
  const shown = getComputedStyle(document.body, '::after').content;
  drop('drop');
  return shown;
}
"""


def test_an_exported_chat_is_imported_by_choosing_or_dropping_it_and_goes_on(
    ada: PageUser, eve: PageUser, tmp_path: Path
) -> None:
    ada.ask("first")
    ada.page.get_by_role("button", name="Edit the message").last.click()
    ada.send("changed")
    expect(ada.replies).to_contain_text("You said: changed")
    expect(ada.page.locator(".foot:visible")).to_have_count(1)
    ada.page.locator(".said:visible").get_by_role("button", name="Version before").click()
    expect(ada.replies).to_contain_text("You said: first")
    file = tmp_path / "chat.json"
    file.write_text(export(ada, "JSON")[1], "utf-8")
    # In another browser, with the button of the menu.
    eve.page.get_by_role("button", name="More for this chat").click()
    with eve.page.expect_file_chooser() as chooser:
        eve.page.get_by_role("button", name="Import a chat").click()
    chooser.value.set_files(file)
    expect(eve.replies).to_contain_text("You said: first")
    expect(eve.page.locator(".said:visible .place")).to_have_text("1/2")
    expect(eve.page.get_by_role("heading", name="first")).to_be_visible()
    expect(eve.page.locator("#chats").get_by_role("link")).to_have_count(2)
    eve.ask("and now?")
    # Dropped on the start page, a foreign file first.
    eve.page.evaluate("localStorage.clear(); sessionStorage.clear()")
    eve.page.goto(eve.url)
    eve.page.evaluate(DROP, '{"title": "Chat", "mapping": {}}')
    expect(eve.page.locator("#importError")).to_have_text(
        "This file is not a chat that was exported here as JSON. Choose one that “Export as JSON” has saved."
    )
    # Chromium itself writes a refused request to the console.
    assert "status of 400" in eve.problems.pop()
    assert "Drop the file" in eve.page.evaluate(DROP, file.read_text("utf-8"))
    expect(eve.replies).to_contain_text("You said: first")
