"""References to items of earlier responses: what takes their place, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chatbot.logs import redact
from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.openai.items import parse_input
from chatbot.protocol.openai.response import View
from chatbot.sessions.responses import response_not_found
from chatbot.web.openai.ids import ResponseId
from chatbot.web.openai.references import resolved

CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
CUT = {**CALL, "call_id": "d", "status": "incomplete"}
KNOWN, RUNNING = ResponseId("t" * 43, "r" * 16), ResponseId("t" * 43, "s" * 16)
REPLY = {"msg": "It is a heart.", "finish_reason": "stop", "timestamp": "2026-11-27T10:00:00Z", "items": [CALL, CUT]}
ENDED = View(str(KNOWN), None, {}, "b", text="It is a heart.", reasoning="hm", reply=REPLY)
MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It is a heart."}]}
USER = {"role": "user", "content": "And this?"}


def view(known: ResponseId) -> View:
    if known == RUNNING:
        return replace(ENDED, id=str(RUNNING), reply=None)
    if known != KNOWN:
        raise response_not_found()
    return ENDED


def test_the_items_of_a_response_take_the_place_of_references_to_them() -> None:
    thought, said, call, _ = ENDED.output()
    assert all(len(item["id"]) <= 64 for item in (thought, said, call))
    sent = [{"type": "item_reference", "id": thought["id"]}, {"id": said["id"]}, {"id": call["id"], "type": None}, USER]
    message, called, user = resolved(parse_input(sent), view)
    assert (message, called, user["role"]) == (MESSAGE, CALL, "user")


@pytest.mark.parametrize(
    "sent",
    [
        [{"id": "msg_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"}],
        [{"id": ENDED.output()[1]["id"].replace("t", "u")}],
        [{"id": ENDED.output()[3]["id"]}],
        [{"id": ENDED.output()[2]["id"][:-1] + "7"}],
        [{"id": view(RUNNING).output()[1]["id"]}],
        [{"id": ENDED.output()[1]["id"]}, {"id": ENDED.output()[1]["id"]}],
        [{"id": ENDED.output()[0]["id"]}],
    ],
    ids=["another server's", "unknown", "a call that was cut", "no such call", "not ended", "twice", "thoughts alone"],
)
def test_a_reference_that_leads_to_nothing_is_refused(sent: list[dict[str, Any]]) -> None:
    with pytest.raises(ClientError) as refused:
        resolved(parse_input(sent), view)
    assert (refused.value.status, str(refused.value.param)[:5]) == (400, "input")


def test_no_item_id_appears_whole_in_a_log() -> None:
    for item in ENDED.output():
        assert "t" * 43 not in redact(f"what of {item['id']}?")
