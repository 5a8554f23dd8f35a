"""A user of the page in a real browser: what they do and see. Errors, dialogs and foreign requests are recorded."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Request, expect

from chatbot.sessions.ids import session_id
from devtools.harness.chat_client import history
from devtools.harness.deployment import Deployment
from tests.support import ledger

#: Milliseconds for an expectation to come true on a busy machine.
PATIENCE = 30_000
#: What Chromium itself writes to the console while a server is away.
NO_CONNECTION = re.compile(r"net::ERR_|dynamically imported module|WebSocket connection to .* failed|status of 503")
#: The same, and what shows when the page asks whether its chat still exists, or connects to it without a websocket.
NO_CONNECTION_OR_EXPIRED = re.compile(rf"{NO_CONNECTION.pattern}|status of 400 .*/(refresh_token|messages|events)\b")
#: Milliseconds; users notice a task that takes longer.
LONG_TASK = 50
#: The milliseconds in which the page lays out a thousand paragraphs, the best of eight; and about how many are usual.
_LAY_OUT = """() => Math.min(...Array.from({ length: 8 }, () => {
  const began = performance.now();
  const box = document.createElement('div');
  box.style = 'position: fixed; contain: strict; width: 600px; height: 600px';
  for (let n = 0; n < 1000; n++) box.append(document.createElement('p'));
  for (const node of box.children) node.textContent = 'some words';
  document.body.append(box);
  void box.offsetHeight;
  box.remove();
  return performance.now() - began;
}))"""
_USUAL_LAYOUT = 12.0


class PageUser:
    """One page in its own browser context. `context` holds options of Playwright's `new_context`."""

    def __init__(self, chromium: Browser, url: str, **context: Any) -> None:
        self.url = url
        self.chromium = chromium
        self.context = chromium.new_context(**context)
        self.context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        #: Console errors and warnings, errors in scripts, dialogs, and requests to other hosts.
        self.problems: list[str] = []
        self.context.on("request", self._check_request)
        self.context.on("console", self._check_console)
        self.context.on("dialog", self._check_dialog)
        self.context.on("weberror", lambda error: self.problems.append(str(error.error)))
        self.page = self.context.new_page()

    def start_chat(self, name: str = "Ada") -> PageUser:
        """Opens the page and enters a name."""
        self.page.goto(self.url)
        self.page.locator("#name").fill(name)
        self.page.keyboard.press("Enter")
        expect(self.state).to_have_text("Connected")
        return self

    def return_to(self, token: str, name: str = "Ada") -> PageUser:
        """Opens the page in a browser that has stored a chat."""
        self.page.goto(self.url)
        self.page.evaluate("token => localStorage.setItem('chat.token', token)", token)
        self.page.evaluate("name => localStorage.setItem('chat.name', name)", name)
        self.page.reload()
        expect(self.state).to_have_text("Connected")
        return self

    def send(self, text: str) -> None:
        self.draft.fill(text)
        # On phones Enter makes a new line.
        self.page.keyboard.press("Control+Enter")

    def ask(self, text: str) -> Locator:
        """Sends a message, waits until the reply is complete, and returns the reply's text."""
        # By their state: what is out of sight is not always laid out, nor a text drawn at once.
        feet = self.page.locator(".foot:not([hidden])")
        count = feet.count()
        self.send(text)
        expect(feet).to_have_count(count + 1)
        return self.replies.last

    def load_all(self) -> None:
        """Loads the earlier messages of the chat, page by page."""
        earlier = self.page.locator("#earlier")
        while earlier.is_visible():
            with self.page.expect_response("**/refresh_token?before=*"):
                earlier.dispatch_event("click")
            expect(earlier).not_to_have_text("Loading…")

    @property
    def draft(self) -> Locator:
        return self.page.locator("#draft")

    @property
    def state(self) -> Locator:
        return self.page.locator("#stateText")

    @property
    def messages(self) -> Locator:
        return self.page.locator(".said:visible .text")

    @property
    def replies(self) -> Locator:
        return self.page.locator(".reply:visible .text:visible")

    @property
    def token(self) -> str:
        found = self.page.evaluate("sessionStorage.getItem('chat.token')")
        assert isinstance(found, str)
        return found

    @property
    def modules(self) -> str:
        """The address of the page's modules, for tests that import one."""
        # The address in the page is relative, and a chat's address has another depth.
        source: str = self.page.evaluate(
            "performance.getEntriesByType('resource').find((entry) => entry.name.endsWith('/main.js')).name"
        )
        return source.removesuffix("main.js")

    def expect_history(self) -> None:
        """Waits until the page shows the server's history: every message once, in order, with its reply after it."""

        def compare() -> tuple[list[str], list[str]]:
            shown = self.page.evaluate(
                "Array.from(document.querySelectorAll('.turn article:not([hidden]) > .text'), node => node.textContent)"
            )
            messages = history(self.url, self.token)
            replies = {message["reply_to"]: message["msg"] for message in messages if message["source"] == "bot"}
            turns = [(m["msg"], replies.get(m["id"])) for m in messages if m["source"] == "human"]
            assert len(turns) + len(replies) == len(messages)
            stored = [text for turn in turns for text in turn if text is not None]
            return [" ".join(text.split()) for text in shown], [" ".join(text.split()) for text in stored]

        deadline = time.monotonic() + 30
        shown, stored = compare()
        while shown != stored and time.monotonic() < deadline:
            # The page shows a reply that is being generated, and the server has not stored it.
            self.page.wait_for_timeout(50)
            shown, stored = compare()
        assert shown == stored

    @contextlib.contextmanager
    def long_tasks(self) -> Iterator[list[float]]:
        """Yields a list. At the end it holds the CPU milliseconds of the page's long tasks, the longest first.

        On a machine that is slow at present a task may take longer, as a layout of known size does.
        """
        found: list[float] = []
        self.chromium.start_tracing(page=self.page, categories=["toplevel"])
        try:
            yield found
        finally:
            events = json.loads(self.chromium.stop_tracing())["traceEvents"]
            threads = {
                (event["pid"], event["tid"])
                for event in events
                if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
            }
            tasks = [
                event["tdur"] / 1000
                for event in events
                if event["name"].endswith("::RunTask") and "tdur" in event and (event["pid"], event["tid"]) in threads
            ]
            assert tasks, "the trace holds no task"
            limit = LONG_TASK * max(1, self.page.evaluate(_LAY_OUT) / _USUAL_LAYOUT)
            found += sorted((task for task in tasks if task > limit), reverse=True)

    def close(self, *, allowed: re.Pattern[str] | None = None) -> None:
        """Closes the browser context. Fails if there were problems that `allowed` does not match."""
        self.context.close()
        problems = [text for text in self.problems if not (allowed and allowed.search(text))]
        assert not problems, problems

    def _check_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.text} {message.location.get('url', '')}")

    def _check_dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _check_request(self, request: Request) -> None:
        if urlsplit(request.url).scheme not in ("blob", "data") and not request.url.startswith(self.url):
            self.problems.append(f"a request to {request.url}")


def end_session(site: Deployment, token: str) -> None:
    """Deletes a session's keys, as their expiry does."""
    ledger.end_session(site.client, session_id(token))
