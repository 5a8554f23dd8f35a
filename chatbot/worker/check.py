"""Asks the configured model one question and says what it found: for operators, before anybody chats."""

from __future__ import annotations

import time
from collections.abc import Callable

from chatbot.config import Settings
from chatbot.errors import CallCancelled, ModelError
from chatbot.worker.models import create_model
from chatbot.worker.models.base import Call
from chatbot.worker.prompts import ReplyText, Turn, estimated_tokens

QUESTION = "Hello! Say in one sentence who you are."


def check(settings: Settings, say: Callable[[str], object]) -> bool:
    """Whether the model gave a reply; `say` gets each line of the report."""
    say(f"address:   {settings.model_url}")
    say(f"protocol:  {settings.model_api}")
    say(f"model:     {settings.model_name}")
    say(f"token:     {'set' if settings.model_token else 'not set'}")
    model = create_model(settings)
    said = ReplyText(model.stop_sequences)
    reply, reason, pieces = "", None, 0
    began, first = time.monotonic(), 0.0
    try:
        for piece in model.generate([Turn("user", QUESTION)], Call(settings.model_timeout)):
            pieces += bool(piece.text)
            first = first or time.monotonic() - began
            reply += said.feed(piece.text)
            reason = piece.finish_reason
            if reason or said.stopped:
                break
    except ModelError as error:
        say(f"verdict:   NO REPLY: {error}")
        return False
    except CallCancelled:
        say(f"verdict:   NO REPLY within MODEL_TIMEOUT, {settings.model_timeout:g} s")
        return False
    reply += said.end()
    took = time.monotonic() - began
    say(f"reply:     {reply!r}")
    say(f"streamed:  {'yes' if pieces > 1 else 'no'}, {pieces} pieces; ended by {reason or 'a stop sequence'}")
    say(f"first piece after {first:.2f} s, all after {took:.2f} s")
    if pieces > 1 and took > first:
        say(f"speed:     {(pieces - 1) / (took - first):.1f} pieces/s")
    else:
        say(f"speed:     about {estimated_tokens(reply) / took:.0f} tokens/s, estimated")
    say("verdict:   OK" if reply else "verdict:   OK, but the reply is empty")
    return True
