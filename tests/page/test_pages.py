"""Long chats: the page shows the newest messages and loads earlier ones page by page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Route, expect

from chatbot.sessions.ids import session_id
from devtools.harness.chat_client import history, new_session
from devtools.harness.deployment import Deployment
from devtools.harness.histories import store_turns
from tests.page.test_export import export
from tests.support.page_user import PageUser

#: The question of the first turn that is visible, and where it is on the screen.
FIRST_VISIBLE = """
() => {
  const edge = document.getElementById('scroller').getBoundingClientRect().top;
  const turns = Array.from(document.querySelectorAll('.turn'));
  const first = turns.find((turn) => turn.getBoundingClientRect().bottom > edge);
  return [first.querySelector('.said .text').textContent, Math.round(first.getBoundingClientRect().top)];
}
"""


@pytest.fixture
def write_turns(site: Deployment) -> Callable[[int], str]:
    """`write_turns(count)` creates a session with that many turns and returns its token."""

    def write(count: int) -> str:
        token = str(new_session(site.url())["token"])
        turns = [(f"question {number}", f"answer {number}" + " word" * 40) for number in range(count)]
        store_turns(site.client, session_id(token), turns, 3600)
        return token

    return write


@pytest.fixture(params=[None, {"width": 390, "height": 780}], ids=["desktop", "phone"])
def reader(
    request: pytest.FixtureRequest, chromium: Browser, site: Deployment, write_turns: Callable[[int], str]
) -> Iterator[PageUser]:
    """A user in a chat of 500 messages, on a computer or a phone."""
    options = {"viewport": request.param} if request.param else {}
    user = PageUser(chromium, site.url(), **options).return_to(write_turns(250))
    expect(turns(user)).to_have_count(100)
    yield user
    user.close()


def turns(user: PageUser) -> Locator:
    return user.page.locator(".turn")


def questions(user: PageUser) -> list[str]:
    return user.page.locator(".said .text").all_text_contents()


def scroll_to(user: PageUser, top: int) -> None:
    user.page.locator("#scroller").evaluate("(node, top) => { node.scrollTop = top; }", top)
    user.page.wait_for_timeout(200)


def test_scrolling_up_loads_earlier_messages_and_moves_nothing_on_the_screen(reader: PageUser) -> None:
    assert questions(reader) == [f"question {n}" for n in range(150, 250)]
    requests: list[Route] = []

    def hold_back(route: Route) -> None:
        requests.append(route)

    reader.page.route("**/refresh_token?before=*", hold_back)
    with reader.page.expect_request("**/refresh_token?before=*"):
        scroll_to(reader, 1500)
        scroll_to(reader, 300)
    before = reader.page.evaluate(FIRST_VISIBLE)
    expect(turns(reader)).to_have_count(100)
    assert len(requests) == 1
    requests[0].continue_()
    expect(turns(reader)).to_have_count(200)
    reader.page.wait_for_timeout(300)
    question, top = reader.page.evaluate(FIRST_VISIBLE)
    assert (question, top) == (before[0], pytest.approx(before[1], abs=2))


def test_a_button_loads_earlier_messages_until_all_are_shown(reader: PageUser) -> None:
    button = reader.page.get_by_role("button", name="Earlier messages")
    # A real click would scroll to the button first, which loads a page by itself.
    button.dispatch_event("click")
    expect(turns(reader)).to_have_count(200)
    button.dispatch_event("click")
    expect(turns(reader)).to_have_count(250)
    expect(button).to_be_hidden()
    assert questions(reader) == [f"question {n}" for n in range(250)]
    reader.ask("one more")
    reader.expect_history()


def test_exports_hold_the_whole_chat_though_the_page_shows_a_part(reader: PageUser) -> None:
    stored = history(reader.url, reader.token)
    assert json.loads(export(reader, "JSON")[1])["messages"] == stored
    text = export(reader, "Markdown")[1]
    assert text.count("\n\nquestion ") == 250
    expect(turns(reader)).to_have_count(100)


def test_an_export_waits_when_the_server_asks_for_it(reader: PageUser) -> None:
    refused: list[Route] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.fallback()
            return
        refused.append(route)
        error = {"error": {"code": "rate_limited", "message": "Slow down"}}
        route.fulfill(status=429, json=error, headers={"Retry-After": "1"})

    reader.page.route("**/refresh_token?before=*", refuse_once)
    document = json.loads(export(reader, "JSON")[1])
    assert (len(refused), len(document["messages"])) == (1, 500)
    # Chromium logs each answer with an error.
    assert [problem for problem in reader.problems if "429" not in problem] == []
    reader.problems.clear()


def test_a_client_that_missed_more_than_a_page_shows_the_newest_messages_without_a_gap(
    eve: PageUser, site: Deployment
) -> None:
    eve.ask("the beginning")
    eve.page.context.set_offline(True)
    site.webs[0].kill()
    session = session_id(eve.token)
    texts = [(f"question {number}", f"answer {number}") for number in range(250)]
    site.client.delete(*site.client.keys(f"chat:{{{session}}}:index"), *site.client.keys(f"chat:{{{session}}}:turns"))
    store_turns(site.client, session, texts, 3600)
    site.webs[0].start()
    site.wait_until_ready()
    eve.page.context.set_offline(False)
    expect(turns(eve)).to_have_count(100)
    assert questions(eve) == [f"question {n}" for n in range(150, 250)]
    eve.load_all()
    eve.expect_history()


CUT = """
async (base) => {
  const { Conversation } = await import(base + 'conversation.js');
  const conversation = new Conversation();
  const human = (id) => ({ id, source: 'human', msg: id, reply_to: null });
  const bot = (id) => ({ id: `r${id}`, source: 'bot', msg: `r${id}`, reply_to: id });
  const seen = () => conversation.order.map(({ text, reply, state }) => [text, reply?.text ?? null, state]);
  const asked = [];
  const apply = (frame) => asked.push(conversation.apply(frame));
  conversation.merge([bot('c'), human('d'), bot('d')]);
  apply({ type: 'error', code: 'model_error', message: 'no', id: 'b', retry_after: null });
  apply({ type: 'delta', id: 'ra', reply_to: 'a', offset: 0, msg: 'half' });
  conversation.merge([bot('c'), human('d'), bot('d')]);
  apply({ type: 'delta', id: 'ra', reply_to: 'a', offset: 4, msg: ' more' });
  apply({ type: 'error', code: 'model_error', message: 'no', id: 'b', retry_after: null });
  const newest = seen();
  conversation.prepend([human('a'), human('b'), human('c')]);
  return [asked, newest, seen()];
}
"""


def test_what_is_known_of_messages_on_earlier_pages_meets_them_when_they_are_loaded(ada: PageUser) -> None:
    asked, newest, loaded = ada.page.evaluate(CUT, ada.modules)
    # The first frames about unknown messages ask for the history, later ones do not.
    assert asked == [False, False, True, True]
    assert newest == [[None, "rc", "done"], ["d", "rd", "done"], [None, "half more", "waiting"]]
    assert loaded == [
        ["a", "half more", "waiting"],
        ["b", None, "failed"],
        ["c", "rc", "done"],
        ["d", "rd", "done"],
    ]
