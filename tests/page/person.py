"""Somebody at the page: what they do, what they see, and what must never happen meanwhile."""

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
from chatbot.store.keys import session_keys
from devtools.harness.chat_client import history
from devtools.harness.deployment import Deployment

#: ms; a busy machine takes its time.
PATIENCE = 30_000
#: What Chromium itself writes to the console while a server is away.
NO_CONNECTION = re.compile(r"net::ERR_|WebSocket connection to .* failed|status of 503")
#: ms; a task of the page that takes longer is felt.
LONG_TASK = 50


class Person:
    """One page in a browser context of its own. `context` takes what Playwright's contexts take."""

    def __init__(self, chromium: Browser, url: str, **context: Any) -> None:
        self.url = url
        self.chromium = chromium
        self.context = chromium.new_context(**context)
        self.context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        #: What went wrong: console errors, errors in scripts, dialogs, requests to other hosts.
        self.trouble: list[str] = []
        self.context.on("request", self._look_at_request)
        self.context.on("console", self._look_at_console)
        self.context.on("dialog", self._look_at_dialog)
        self.context.on("weberror", lambda error: self.trouble.append(str(error.error)))
        self.page = self.context.new_page()

    def begin(self, name: str = "Ada") -> Person:
        """Opens the page and gives a name."""
        self.page.goto(self.url)
        self.page.locator("#name").fill(name)
        self.page.keyboard.press("Enter")
        expect(self.state).to_have_text("Connected")
        return self

    def come_back(self, token: str, name: str = "Ada") -> Person:
        """Opens the page in a browser that remembers a chat."""
        self.page.goto(self.url)
        self.page.evaluate("token => localStorage.setItem('chat.token', token)", token)
        self.page.evaluate("name => localStorage.setItem('chat.name', name)", name)
        self.page.reload()
        expect(self.state).to_have_text("Connected")
        return self

    def say(self, text: str) -> None:
        self.draft.fill(text)
        self.page.keyboard.press("Enter")

    def ask(self, text: str) -> Locator:
        """Says something and waits for the end of the reply; its text."""
        count = self.replies.count()
        self.say(text)
        expect(self.page.locator(".foot:visible")).to_have_count(count + 1)
        return self.replies.last

    @property
    def draft(self) -> Locator:
        return self.page.locator("#draft")

    @property
    def state(self) -> Locator:
        return self.page.locator("#stateText")

    @property
    def sayings(self) -> Locator:
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
        """Where the page's modules are, for what is tried of one of them alone."""
        source = self.page.locator("script[type=module]").get_attribute("src")
        assert source is not None
        return source.removesuffix("main.js")

    def sees_all_once(self) -> None:
        """The page comes to show what the server holds: each message once, in order, each reply after its message."""

        def compare() -> tuple[list[str], list[str]]:
            shown = self.page.evaluate(
                "Array.from(document.querySelectorAll('.turn article:not([hidden]) > .text'), node => node.textContent)"
            )
            messages = history(self.url, self.token)
            replies = {message["reply_to"]: message["msg"] for message in messages if message["source"] == "bot"}
            turns = [(m["msg"], replies.get(m["id"])) for m in messages if m["source"] == "human"]
            assert len(turns) + len(replies) == len(messages)
            held = [text for turn in turns for text in turn if text is not None]
            return [" ".join(text.split()) for text in shown], [" ".join(text.split()) for text in held]

        deadline = time.monotonic() + 20
        shown, held = compare()
        while shown != held and time.monotonic() < deadline:
            # A reply that is still being generated is shown, and not held yet.
            self.page.wait_for_timeout(50)
            shown, held = compare()
        assert shown == held

    @contextlib.contextmanager
    def long_tasks(self) -> Iterator[list[float]]:
        """At the end of the `with`: ms of each long task of the page's thread, the longest first.

        What is counted is what the thread ran, not how long it waited for a busy machine's processor.
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
            found += sorted((task for task in tasks if task > LONG_TASK), reverse=True)

    def leave(self, *, forgiving: re.Pattern[str] | None = None) -> None:
        """Closes the browser context; nothing may have gone wrong but what `forgiving` matches."""
        self.context.close()
        trouble = [text for text in self.trouble if not (forgiving and forgiving.search(text))]
        assert not trouble, trouble

    def _look_at_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(f"{message.text} {message.location.get('url', '')}")

    def _look_at_dialog(self, dialog: Dialog) -> None:
        self.trouble.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _look_at_request(self, request: Request) -> None:
        if urlsplit(request.url).scheme not in ("blob", "data") and not request.url.startswith(self.url):
            self.trouble.append(f"a request to {request.url}")


def end_session(site: Deployment, token: str) -> None:
    """What time does to a session that nobody uses."""
    site.client.delete(*session_keys(session_id(token))[:-2])
