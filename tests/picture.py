"""`make picture`: docs/images/chat.png, the real page over the real pipeline with the local model."""

from __future__ import annotations

import re
import sys

from playwright.sync_api import expect

from chatbot.local.plan import SYSTEM_PROMPT
from tests.browser import browser, find
from tests.deployment import ROOT, Deployment, Process, eventually, free_port

QUESTIONS = ("What is the capital of France?", "Write two sentences about message queues.")
PICTURE = ROOT / "docs" / "images" / "chat.png"


def main() -> int:
    """Takes the picture; exit status 1 when there is no Chromium."""
    executable = find()
    if executable is None:
        print("No Chromium was found: install it (Debian: apt install chromium), or set CHROMIUM to it")
        return 1
    port = free_port()
    chat = Deployment(f"http://127.0.0.1:{port}/v1/chat/completions", max_new_tokens=80, system_prompt=SYSTEM_PROMPT)
    command = [sys.executable, "-m", "chatbot.local.model_server", "--port", str(port)]
    model = Process("model", command, chat.env, chat.folder / "model.log").start()
    try:
        eventually(lambda: "serving" in model.log, 60, "the model is served")
        with chat, browser(executable) as chromium:
            page = chromium.new_page(viewport={"width": 1100, "height": 720}, color_scheme="light")
            page.goto(chat.url())
            page.locator("#name").fill("Ada")
            page.keyboard.press("Enter")
            for question in QUESTIONS:
                page.locator("#draft").fill(question)
                page.keyboard.press("Enter")
                page.get_by_role("button", name="Stop").wait_for(state="visible")
                if question != QUESTIONS[-1]:
                    page.get_by_role("button", name="Stop").wait_for(state="hidden", timeout=60_000)
            begun = re.compile(r".{60,}", re.DOTALL)
            expect(page.locator(".turn:last-child .reply .text")).to_have_text(begun, timeout=60_000)
            PICTURE.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=str(PICTURE))
    finally:
        model.kill()
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
