"""Proxies that cut websockets, or hold event streams back: the page goes on by other transports and loses nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from devtools.harness.deployment import Deployment, eventually
from devtools.harness.http_proxy import HttpProxy
from devtools.paths import ROOT
from tests.page.conftest import FRIEND
from tests.support.page_user import PageUser

LONG = "!interval=40 !tokens=25 go on"
#: What Chromium itself writes about a websocket that a proxy cuts.
CUT = re.compile("WebSocket connection to .* failed")
#: The same, and what it writes while the server is away.
BROKEN = re.compile("WebSocket connection to .* failed|Failed to load resource|ERR_")
TRANSPORT = "sessionStorage.getItem('chat.transport')"


@pytest.fixture
def proxy(site: Deployment, request: pytest.FixtureRequest) -> Iterator[HttpProxy]:
    with HttpProxy(int(site.webs[0].env["PORT"]), holds_back=request.param) as found:
        yield found


@pytest.mark.parametrize(("proxy", "transport"), [(False, "events"), (True, "polling")], indirect=["proxy"])
def test_a_chat_goes_on_without_a_websocket_and_through_kills(
    chromium: Browser, site: Deployment, proxy: HttpProxy, transport: str
) -> None:
    user = PageUser(chromium, proxy.url).start_chat()
    assert user.page.evaluate(TRANSPORT) == transport
    # Another tab of the session, by websocket.
    other = PageUser(chromium, site.url()).return_to(user.token)
    user.send(LONG)
    expect(user.replies.last).to_contain_text("w5")
    for process in (site.webs[0], site.workers[0]):
        process.restart()
    user.send("and this")
    eventually(site.ready)
    for page in (user.page, other.page):
        # It need not wait for its next try.
        page.evaluate("dispatchEvent(new Event('online'))")
    expect(other.messages).to_have_count(2)
    other.send("from elsewhere")
    expect(user.page.locator(".foot:visible")).to_have_count(3)
    user.send("!interval=40 !tokens=1000 go on and on")
    expect(user.replies.last).to_contain_text("w5")
    user.page.get_by_role("button", name="Stop").click()
    expect(user.page.locator(".foot:visible")).to_have_count(4)
    # A reload does not try what failed before.
    before = proxy.requests.count("GET /chat")
    user.page.reload()
    expect(user.state).to_have_text("Connected")
    assert proxy.requests.count("GET /chat") == before
    for someone in (user, other):
        someone.expect_history()
    expect(user.page.locator(".failure:visible")).to_have_count(0)
    other.close(allowed=BROKEN)
    user.close(allowed=BROKEN)


@pytest.mark.parametrize("proxy", [False], indirect=True)
def test_a_page_goes_back_to_the_websocket(chromium: Browser, proxy: HttpProxy) -> None:
    user = PageUser(chromium, proxy.url)
    user.context.clock.install()
    user.start_chat()
    proxy.cuts_websockets = False
    user.send(LONG)
    expect(user.replies.last).to_contain_text("w5")
    with user.page.expect_websocket():
        user.page.clock.fast_forward(61_000)
    expect(user.page.locator(".foot:visible")).to_have_count(1)
    assert user.page.evaluate(TRANSPORT) == "websocket"
    user.ask("still there?")
    expect(user.state).to_have_text("Connected")
    user.expect_history()
    user.close(allowed=CUT)


def test_the_documented_client_talks_from_a_page_of_another_origin(chromium: Browser, site: Deployment) -> None:
    code = (ROOT / "docs" / "client.md").read_text("utf-8").partition("```js\n")[2].partition("```")[0]
    assert len(code.splitlines()) <= 15
    script = code.replace("https://chat.example.org", site.url())
    # As a user permits it: pages of the internet may not use addresses of this machine.
    context = chromium.new_context(permissions=["local-network-access"])
    page = context.new_page()
    page.route(
        f"{FRIEND}/",
        lambda route: route.fulfill(
            body=f"""<p id=reply></p><script type=module>{script}</script>
        """,
            content_type="text/html",
        ),
    )
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{FRIEND}/")
    expect(page.locator("#reply")).to_contain_text("You said: What is the capital of France?")
    assert not problems
    context.close()
