"""DNS rebinding in a real browser: a site turns its own name into 127.0.0.1, and its page asks this server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from devtools.harness.browser import FLAGS, find
from devtools.harness.deployment import Deployment

#: What such a page would do. Its origin is that of the server, so it may read every answer and connect.
READ = "path => fetch(path, {method: path === '/token?name=Eve' ? 'POST' : 'GET'}).then(r => r.text())"
CONNECT = """() => new Promise(resolve => {
    const socket = new WebSocket(`ws://${location.host}/chat?token=x`);
    socket.onopen = () => resolve('open');
    socket.onerror = () => resolve('refused');
})"""


@pytest.fixture
def rebound(chromium: Browser) -> Iterator[Browser]:
    """A browser for which evil.example is this machine."""
    flags = [*FLAGS, "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    with chromium.browser_type.launch(executable_path=find(), args=flags) as found:
        yield found


def test_a_page_whose_name_was_turned_to_this_machine_gets_nothing(rebound: Browser, site: Deployment) -> None:
    page = rebound.new_page()
    page.goto(site.url().replace("127.0.0.1", "evil.example"))
    expect(page.locator("body")).to_contain_text("host_not_allowed")
    for path in ("/token?name=Eve", "/metrics", "/readyz", "/"):
        assert '"host_not_allowed"' in page.evaluate(READ, path)
    assert page.evaluate(CONNECT) == "refused"
