"""Talking: what is written, sent, shown, stopped, tried again and copied, in a real browser over the real pipeline."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from devtools.fake_model import ModelServer
from devtools.harness.deployment import Deployment
from tests.page.person import NO_CONNECTION, Person


def test_a_question_gets_an_answer(ada: Person) -> None:
    expect(ada.ask("what is this?")).to_contain_text("You said: what is this? .")
    expect(ada.sayings).to_have_text(["what is this?"])


def test_enter_sends_and_shift_enter_breaks_the_line(ada: Person) -> None:
    ada.draft.press_sequentially("one")
    ada.page.keyboard.press("Shift+Enter")
    ada.draft.press_sequentially("two")
    expect(ada.sayings).to_have_count(0)
    ada.page.keyboard.press("Enter")
    expect(ada.sayings).to_have_text(["one\ntwo"], use_inner_text=True)
    expect(ada.draft).to_have_value("")


def test_a_suggestion_begins_the_chat(ada: Person) -> None:
    ada.page.get_by_role("button", name="What is the capital of France?").click()
    expect(ada.replies).to_contain_text("You said: What is the capital of France?")


def test_a_refresh_in_the_middle_of_a_reply_loses_and_doubles_nothing(ada: Person) -> None:
    ada.say("!interval=50 !tokens=40 go on for a while")
    expect(ada.replies).to_contain_text("w3")
    ada.draft.fill("typed meanwhile")
    ada.page.reload()
    expect(ada.replies).to_contain_text("w30")
    expect(ada.page.locator(".foot:visible")).to_have_count(1)
    ada.sees_all_once()
    expect(ada.draft).to_have_value("typed meanwhile")


def test_stop_keeps_what_was_said(ada: Person) -> None:
    ada.say("!interval=50 !tokens=400 never stop")
    expect(ada.replies).to_contain_text("w3")
    expect(ada.state).to_have_text("Generating")
    ada.page.get_by_role("button", name="Stop the reply").click()
    expect(ada.page.get_by_text("Stopped", exact=True)).to_be_visible()
    expect(ada.page.locator("#stop")).to_be_hidden()
    expect(ada.replies).not_to_contain_text("w390")
    ada.sees_all_once()


def test_a_failed_reply_is_told_and_may_be_tried_again(ada: Person, model: ModelServer) -> None:
    model.fault("unauthorized", 1)
    ada.say("fail once")
    expect(ada.page.get_by_text("The reply failed.", exact=True)).to_have_count(2)  # in the log, and announced
    expect(ada.state).to_have_text("Reply failed")
    ada.page.get_by_role("button", name="Retry").click()
    expect(ada.replies).to_contain_text("You said: fail once")
    expect(ada.page.locator(".failure:visible")).to_have_count(0)
    ada.sees_all_once()


def test_it_is_told_that_the_model_is_being_loaded(ada: Person, model: ModelServer) -> None:
    model.fault("loading", 2, estimated_time=1)
    ada.say("are you there?")
    expect(ada.state).to_have_text("Loading the model")
    expect(ada.page.locator(".progress:visible")).to_have_text("Loading the model")
    expect(ada.replies).to_contain_text("You said: are you there?")
    expect(ada.state).to_have_text("Connected")


def test_a_message_that_is_too_long_is_kept_to_be_edited(ada: Person) -> None:
    text = "too long " * 1000
    ada.say(text)
    expect(ada.page.locator(".failure:visible")).to_contain_text("the message is too long")
    ada.page.get_by_role("button", name="Edit").click()
    expect(ada.draft).to_have_value(text)
    expect(ada.sayings).to_have_count(0)


def test_messages_beyond_what_may_wait_are_kept_and_can_be_sent_again(ada: Person, model: ModelServer) -> None:
    model.control(first=60_000)
    for number in range(9):
        ada.say(f"message {number}")
    expect(ada.page.locator(".failure:visible")).to_contain_text("earlier messages still wait")
    expect(ada.sayings.last).to_have_text("message 8")
    model.control(first=0)
    ada.page.locator("#stop").click()
    expect(ada.page.locator(".foot:visible")).to_have_count(8)
    ada.page.get_by_role("button", name="Send again").click()
    expect(ada.replies.last).to_contain_text("You said: message 8")
    ada.sees_all_once()


def test_the_view_follows_the_text_unless_the_person_scrolled_up(ada: Person) -> None:
    left = (
        "() => { const s = document.getElementById('scroller'); return s.scrollHeight - s.scrollTop - s.clientHeight }"
    )
    ada.ask("!tokens=2000 fill the page")
    ada.say("!interval=20 !say=" + "line\\n\\n" * 60)
    expect(ada.replies.last).to_contain_text("line")
    assert ada.page.evaluate(left) < 50
    ada.page.locator("#scroller").hover()
    ada.page.mouse.wheel(0, -600)
    jump = ada.page.get_by_role("button", name="Jump to latest")
    expect(jump).to_be_visible()
    expect(ada.page.locator(".foot:visible")).to_have_count(2)
    assert ada.page.evaluate(left) > 400
    jump.click()
    expect(jump).to_be_hidden()
    assert ada.page.evaluate(left) < 50


def test_a_reply_can_be_copied_as_it_was_written(ada: Person) -> None:
    ada.ask("!say=**bold** and `code`")
    ada.page.get_by_role("button", name="Copy the reply").click()
    expect(ada.page.locator(".copy:visible")).to_have_text("Copied")
    assert ada.page.evaluate("navigator.clipboard.readText()") == "**bold** and `code`"


def test_copying_works_where_the_page_may_not_use_the_clipboard(chromium: Browser, site: Deployment) -> None:
    person = Person(chromium, site.url())
    person.page.add_init_script("delete Navigator.prototype.clipboard")
    person.begin().ask("!say=over plain HTTP")
    person.page.get_by_role("button", name="Copy the reply").click()
    expect(person.page.locator(".copy:visible")).to_have_text("Copied")
    person.draft.focus()
    person.page.keyboard.press("Control+V")
    expect(person.draft).to_have_value("over plain HTTP")
    person.leave()


def test_two_pages_of_one_session_show_the_same(ada: Person) -> None:
    ada.ask("the first")
    with ada.context.expect_page() as opened:
        ada.page.evaluate("void window.open('/')")
    other = opened.value.locator(".turn")
    expect(other.locator(".reply .text")).to_contain_text("You said: the first")
    ada.ask("the second")
    expect(other.locator(".said .text").nth(1)).to_have_text("the second")
    expect(other.locator(".reply .text").nth(1)).to_contain_text("You said: the second")


def test_a_name_is_asked_for_and_a_server_that_is_away_is_told(chromium: Browser, site: Deployment) -> None:
    person = Person(chromium, site.url())
    person.page.goto(site.url())
    person.page.get_by_role("button", name="Start chatting").click()
    expect(person.page.get_by_role("alert")).to_have_text("Please write your name.")
    expect(person.page.get_by_label("Your name")).to_be_focused()
    person.page.get_by_label("Your name").fill("Ada")
    person.context.set_offline(True)
    person.page.get_by_role("button", name="Start chatting").click()
    expect(person.page.get_by_role("alert")).to_have_text("The server cannot be reached. Try again in a moment.")
    expect(person.page.get_by_label("Your name")).to_have_value("Ada")
    person.context.set_offline(False)
    person.page.get_by_role("button", name="Start chatting").click()
    expect(person.page.get_by_role("heading", name="Hello, Ada")).to_be_visible()
    person.leave(forgiving=NO_CONNECTION)


def test_a_name_that_the_server_refuses_is_asked_for_again_in_words_for_people(ada: Person) -> None:
    ada.page.evaluate("localStorage.clear(); sessionStorage.clear()")
    ada.page.reload()
    for name in ("A\u0007da", "\u200b"):
        ada.page.get_by_label("Your name").fill(name)
        ada.page.get_by_role("button", name="Start chatting").click()
        expect(ada.page.get_by_role("alert")).to_have_text(
            "This name cannot be used. Please write one of up to 64 ordinary characters."
        )
        ada.page.reload()
    # The browser notes the refusals, as it does with any.
    assert all("400" in text for text in ada.trouble)
    ada.trouble.clear()


REFUSED = """
async ([base, seconds]) => {
  const { Conversation } = await import(base + 'conversation.js');
  const { TurnNodes } = await import(base + 'turn.js');
  const conversation = new Conversation();
  const turn = conversation.add('m1', 'too quick');
  const nodes = new TurnNodes('m1');
  const draw = () => nodes.fill(turn, draw);
  conversation.apply({ type: 'error', code: 'rate_limited', message: '', id: 'm1', retry_after: seconds });
  draw();
  document.getElementById('turns').append(nodes.root);
}
"""


def test_it_is_told_when_a_message_that_came_too_soon_can_be_sent_again(ada: Person) -> None:
    ada.page.evaluate(REFUSED, [ada.modules, 2])
    failure = ada.page.locator(".failure:visible")
    again = ada.page.get_by_role("button", name="Send again")
    expect(failure.locator("p")).to_have_text(
        "Not sent: too many messages in a short time. You can try again in 2 seconds."
    )
    expect(again).to_be_disabled()
    expect(again).to_be_enabled()
    expect(failure.locator("p")).to_have_text("Not sent: too many messages in a short time.")
    expect(ada.sayings).to_have_text(["too quick"])


TRIMMED = """
async (base) => {
  const { Conversation } = await import(base + 'conversation.js');
  const conversation = new Conversation();
  const human = (id) => ({ id, source: 'human', msg: id, reply_to: null });
  const bot = (id) => ({ id: `r${id}`, source: 'bot', msg: `r${id}`, reply_to: id });
  const log = ['a', 'b', 'c'].flatMap((id) => [human(id), bot(id)]);
  conversation.merge(log);
  conversation.merge([...log.slice(3), human('d'), bot('d')]);
  return conversation.order.map((turn) => turn.id);
}
"""


def test_what_the_server_does_not_keep_any_more_keeps_its_place(ada: Person) -> None:
    assert ada.page.evaluate(TRIMMED, ada.modules) == ["a", "b", "c", "d"]
