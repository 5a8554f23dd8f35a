"""A real Chromium, and one deployment whose processes tests may kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from chatbot.sessions.ids import session_id
from chatbot.sessions.leases import Leases
from chatbot.sessions.sessions import Sessions
from devtools.fake_model import ModelServer
from devtools.harness.browser import browser, find
from devtools.harness.deployment import Deployment
from tests.support.page_user import NO_CONNECTION_OR_EXPIRED, PageUser

#: Another origin of this machine, where nothing listens.
FRIEND = "http://localhost:9"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    executable = find()
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: .ci/run installs it")
        pytest.skip("no Chromium on this machine: install it, or set CHROMIUM")
    with browser(executable) as found:
        yield found


@pytest.fixture(scope="session")
def site(model: ModelServer) -> Iterator[Deployment]:
    """One process of each kind. Replies may be long, and pages of `FRIEND` may connect."""
    with Deployment(model.url, max_new_tokens=60_000, model_attempts=2, allowed_origins=FRIEND) as deployment:
        yield deployment


@pytest.fixture
def ada(chromium: Browser, site: Deployment) -> Iterator[PageUser]:
    """A user who has just started a chat. An error or a warning in the console fails the test."""
    user = PageUser(chromium, site.url(), permissions=["clipboard-read", "clipboard-write"]).start_chat()
    yield user
    user.close()


@pytest.fixture
def eve(chromium: Browser, site: Deployment) -> Iterator[PageUser]:
    """A user whose console may show lost connections and expired chats. Killed processes start again afterwards."""
    user = PageUser(chromium, site.url()).start_chat()
    yield user
    user.close(allowed=NO_CONNECTION_OR_EXPIRED)
    for process in site.processes:
        if not process.running:
            process.start()
    site.wait_until_ready()


@pytest.fixture(scope="session")
def write_history(site: Deployment) -> Callable[..., str]:
    """`write_history(turns, reply)` creates a session with that many turns and returns its token."""

    def write(turns: int, reply: str) -> str:
        sessions = Sessions(site.client, ttl=3600, max_pending=8)
        leases = Leases(site.client, ttl=3600, history_messages=1)
        token = str(sessions.create("Ada")["token"])
        session = session_id(token)
        for number in range(turns):
            sessions.requests.accept(session, None, f"question {number}")
            work = leases.claim(session)
            assert work is not None
            leases.commit(work, f"{reply}\n\nanswer {number}", "stop", go_on=True)
        return token

    return write
