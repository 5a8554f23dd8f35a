"""One message and its reply: failures, delays, and the buttons for them."""

from __future__ import annotations

from playwright.sync_api import expect

from devtools.fake_model import ModelServer
from tests.support.page_user import PageUser


def test_a_failed_reply_is_shown_and_can_be_retried(ada: PageUser, model: ModelServer) -> None:
    model.fault("unauthorized", 1)
    ada.send("fail once")
    expect(ada.page.locator("#announcer")).to_have_text("The reply failed.")
    expect(ada.page.locator(".failure:visible p")).to_have_text(
        "The reply failed. The model's provider does not accept this chat's access key. Its operator must replace it."
    )
    expect(ada.state).to_have_text("Reply failed")
    ada.page.get_by_role("button", name="Retry").click()
    expect(ada.replies).to_contain_text("You said: fail once")
    expect(ada.page.locator(".failure:visible")).to_have_count(0)
    ada.expect_history()


def test_a_message_that_is_too_long_for_the_model_can_be_shortened(ada: PageUser, model: ModelServer) -> None:
    model.fault("invalid")
    ada.send("a very long message")
    expect(ada.page.locator(".failure:visible p")).to_have_text(
        "The reply failed. This message is too long for the model. Make it shorter, and send it again."
    )
    expect(ada.page.get_by_role("button", name="Retry")).to_have_count(0)
    # The same after a refresh, from the server.
    ada.page.reload()
    ada.page.get_by_role("button", name="Edit", exact=True).click()
    expect(ada.draft).to_have_value("a very long message")
    model.reset()
    ada.send("a message")
    expect(ada.replies).to_contain_text("You said: a message")
    expect(ada.messages).to_have_text(["a message"])
    expect(ada.page.locator(".said:visible .place")).to_have_text("2/2")


def test_the_page_shows_that_the_model_is_loading(ada: PageUser, model: ModelServer) -> None:
    model.fault("loading", 2, estimated_time=1)
    ada.send("are you there?")
    expect(ada.state).to_have_text("Loading the model")
    expect(ada.page.locator(".progress:visible")).to_have_text("Loading the model")
    expect(ada.replies).to_contain_text("You said: are you there?")
    expect(ada.state).to_have_text("Connected")


def test_messages_beyond_the_limit_of_pending_ones_can_be_sent_again(ada: PageUser, model: ModelServer) -> None:
    model.control(first=60_000)
    for number in range(10):
        ada.send(f"message {number}")
    expect(ada.page.locator(".failure:visible").last).to_contain_text("earlier messages still wait")
    expect(ada.messages.last).to_have_text("message 9")
    expect(ada.page.get_by_role("button", name="Send all 2 again")).to_be_visible()
    model.control(first=0)
    ada.page.locator("#stop").click()
    expect(ada.page.locator(".foot:visible")).to_have_count(8)
    for number in (8, 9):
        ada.page.get_by_role("button", name="Send again").first.click()
        expect(ada.replies.filter(has_text=f"You said: message {number}")).to_have_count(1)
    ada.expect_history()


REFUSED = """
async ([base, seconds]) => {
  const { Conversation } = await import(base + 'conversation.js');
  const { MessageView } = await import(base + 'message-view.js');
  const conversation = new Conversation();
  const turn = conversation.add('m1', 'too quick');
  const view = new MessageView('m1');
  const draw = () => view.fill(turn, conversation.paths, draw);
  conversation.apply({ type: 'error', code: 'rate_limited', message: '', id: 'm1', retry_after: seconds });
  draw();
  document.getElementById('turns').append(view.root);
}
"""


def test_a_countdown_shows_when_a_rate_limited_message_can_be_sent_again(ada: PageUser) -> None:
    ada.page.evaluate(REFUSED, [ada.modules, 2])
    failure = ada.page.locator(".failure:visible")
    again = ada.page.get_by_role("button", name="Send again")
    expect(failure.locator("p")).to_have_text(
        "Not sent: too many messages in a short time. You can try again in 2 seconds."
    )
    expect(again).to_be_disabled()
    expect(again).to_be_enabled()
    expect(failure.locator("p")).to_have_text("Not sent: too many messages in a short time.")
    expect(ada.messages).to_have_text(["too quick"])


EMPTY = """
async (base) => {
  const { Conversation } = await import(base + 'conversation.js');
  const { MessageView } = await import(base + 'message-view.js');
  const conversation = new Conversation();
  const turn = conversation.add('m1', 'say nothing');
  const view = new MessageView('m1');
  conversation.apply({ type: 'message', id: 'r1', source: 'bot', msg: '', reply_to: 'm1', finish_reason: 'stop' });
  view.fill(turn, conversation.paths, () => {});
  document.getElementById('turns').append(view.root);
}
"""


def test_a_reply_without_text_says_so(ada: PageUser) -> None:
    ada.page.evaluate(EMPTY, ada.modules)
    expect(ada.page.locator(".foot:visible")).to_have_text("The model returned no text", use_inner_text=True)
