"""What the model thinks, on the page and in exports."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from devtools.harness.deployment import Deployment
from tests.page.test_accessibility import violations
from tests.support.page_user import PageUser

#: Applies frames about the message m1 to a conversation, and draws it.
SHOW = """
async ([base, frames]) => {
  const { Conversation } = await import(base + 'conversation.js');
  const { MessageView } = await import(base + 'message-view.js');
  if (!window.shown) {
    const conversation = new Conversation();
    conversation.add('m1', 'think!');
    window.shown = { conversation, view: new MessageView('m1') };
    document.getElementById('turns').append(window.shown.view.root);
  }
  const { conversation, view } = window.shown;
  for (const frame of frames) conversation.apply(frame);
  view.fill(conversation.get('m1'), conversation.paths, () => {});
  while (view.behind) view.step();
}
"""
EXPORTS = """
async (base) => {
  const { messagesOf, toMarkdown } = await import(base + 'export.js');
  const { conversation } = window.shown;
  const messages = messagesOf(conversation);
  return [messages, toMarkdown({ name: 'Ada', begun: null, conversation }, messages, 'Chat')];
}
"""


def frame(kind: str, offset: int, text: str) -> dict[str, object]:
    return {"type": kind, "id": "r1", "reply_to": "m1", "offset": offset, "msg": text}


def final(text: str, **fields: object) -> dict[str, object]:
    return {"type": "message", "id": "r1", "source": "bot", "reply_to": "m1", "msg": text, "timestamp": "t", **fields}


def test_thinking_is_folded_above_the_reply_and_grows(ada: PageUser) -> None:
    def show(*frames: dict[str, object]) -> None:
        ada.page.evaluate(SHOW, [ada.modules, frames])

    block, thought = ada.page.locator("details.thinking"), ada.page.locator(".thought")
    show({"type": "ack", "id": "m1"})
    expect(block).to_have_count(0)
    show(frame("reasoning", 0, "Let me 🤔 "), frame("reasoning", 9, "see"))
    expect(block.locator("summary")).to_have_text("Thinking")
    expect(thought).to_be_hidden()
    block.locator("summary").focus()
    ada.page.keyboard.press("Enter")
    expect(thought).to_have_text("Let me 🤔 see")
    show(frame("delta", 0, "Yes"), frame("reasoning", 12, "!"))
    expect(thought).to_have_text("Let me 🤔 see!")
    expect(ada.replies).to_have_text("Yes")
    # The reply is generated again.
    show(frame("reasoning", 0, "Anew"))
    expect(thought).to_have_text("Anew")
    expect(ada.page.locator(".reply .text:visible")).to_have_count(0)
    show(final("No", finish_reason="content_filter", reasoning="In the end"))
    expect(thought).to_have_text("In the end")
    expect(ada.replies).to_have_text("No")
    expect(ada.page.locator(".foot .meta")).to_have_text("Cut off by the provider’s content filter")
    expect(thought).to_be_visible()


def test_a_stop_while_the_model_thinks_shows_what_it_thought(ada: PageUser) -> None:
    frames = [{"type": "ack", "id": "m1"}, final("", finish_reason="stopped", reasoning="hm")]
    ada.page.evaluate(SHOW, [ada.modules, frames])
    expect(ada.page.locator(".foot .meta")).to_have_text("Stopped")
    expect(ada.page.get_by_role("button", name="Regenerate the reply")).to_be_visible()
    expect(ada.page.get_by_role("button", name="Good reply")).to_be_hidden()
    expect(ada.page.locator(".thought")).to_have_text("hm")


def test_exports_hold_the_thinking(ada: PageUser) -> None:
    thought = "first\n```\nopen"
    frames = [{"type": "ack", "id": "m1"}, final("Hi", finish_reason="content_filter", reasoning=thought)]
    ada.page.evaluate(SHOW, [ada.modules, frames])
    messages, markdown = ada.page.evaluate(EXPORTS, ada.modules)
    assert messages[-1]["reasoning"] == thought
    assert "reasoning" not in messages[0]
    assert "> *Thinking*\n>\n> first\n> ```\n> open\n\nHi\n\n*Cut off by the provider’s content filter.*" in markdown


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_thinking(chromium: Browser, site: Deployment, scheme: str) -> None:
    user = PageUser(chromium, site.url(), color_scheme=scheme, reduced_motion="reduce")
    user.start_chat()
    frames = [{"type": "ack", "id": "m1"}, final("Hi", finish_reason="stop", reasoning="hm")]
    user.page.evaluate(SHOW, [user.modules, frames])
    user.page.locator("details.thinking summary").click()
    expect(user.page.locator(".thought")).to_be_visible()
    assert violations(user.page) == []
    user.close()
