"""Takes docs/images/chat.png: the real page on the real pipeline with the local model."""

from __future__ import annotations

import argparse
import re
import sys

from playwright.sync_api import expect

from devtools.harness.browser import browser, find
from devtools.harness.deployment import Deployment, Process, eventually
from devtools.harness.ports import free_port
from devtools.local.plan import SYSTEM_PROMPT
from devtools.paths import ROOT

#: The questions of two chats; the picture is taken during the reply to the last one.
CHATS = (
    ("Suggest three names for a black cat",),
    ("What is the capital of France?", "Name three things that a message queue is good for."),
)
PICTURE = ROOT / "docs" / "images" / "chat.png"


def main() -> int:
    """Takes the picture; exit status 1 without a Chromium."""
    argparse.ArgumentParser(prog="make picture", description=__doc__).parse_args()
    executable = find()
    if executable is None:
        print("No Chromium was found: install it (Debian: apt install chromium), or set CHROMIUM to its path")
        return 1
    port = free_port()
    chat = Deployment(
        f"http://127.0.0.1:{port}/v1/chat/completions", max_new_tokens=120, system_prompt=SYSTEM_PROMPT, seed=3
    )
    command = [sys.executable, "-m", "devtools.local.llama_server", "--port", str(port)]
    model = Process("model", command, chat.env, chat.folder / "model.log").start()
    try:
        eventually(lambda: "serving" in model.log, 60, "the model is served")
        with chat, browser(executable) as chromium:
            page = chromium.new_page(viewport={"width": 1280, "height": 760}, color_scheme="light")
            page.goto(chat.url())
            page.locator("#name").fill("Ada")
            page.keyboard.press("Enter")
            for questions in CHATS:
                if questions is not CHATS[0]:
                    page.get_by_role("button", name="New chat", exact=True).first.click()
                    page.get_by_role("heading", name="Hello, Ada").wait_for()
                    page.mouse.move(0, 0)
                for number, question in enumerate(questions, 1):
                    page.locator("#draft").fill(question)
                    page.keyboard.press("Enter")
                    if question != CHATS[-1][-1]:
                        expect(page.locator(".foot:visible")).to_have_count(number, timeout=60_000)
            begun = re.compile(r".{150,}", re.DOTALL)
            expect(page.locator(".turn:last-child .reply .text")).to_have_text(begun, timeout=60_000)
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(PICTURE))
    finally:
        model.kill()
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
