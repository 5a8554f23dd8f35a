"""A client that does not read, against real processes."""

from __future__ import annotations

from chatbot.web.fanout.outbox import SEND_DEADLINE
from devtools.harness.chat_client import ChatClient
from devtools.harness.deployment import Deployment
from tests.support.rounds import within


def test_a_client_that_never_reads_is_closed_and_others_are_served(chat: Deployment) -> None:
    with ChatClient(chat.url()) as deaf, ChatClient(chat.url()) as polite:
        deaf.ask("x" * 8000, "m1")
        # Each repeated message gets its reply again: more than 5 MB in all.
        for _ in range(700):
            deaf.send("again", "m1")
            if len(polite.frames) < 40:
                # The deaf one may take its time for much longer.
                within(SEND_DEADLINE / 10, lambda: polite.ask("are you there?"))
        closed = deaf.closed()
        assert (closed.code, closed.reason) == (1013, "This client reads too slowly")
        polite.ask("still there?")
        assert not chat.webs[0].traceback()
