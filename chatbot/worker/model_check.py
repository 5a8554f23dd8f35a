"""Asks each configured model server one question and says what it found: for operators, before anybody chats."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit

from chatbot.config import HUGGINGFACE, ModelAddress, Settings
from chatbot.worker.models import create_adapter
from chatbot.worker.models.base import Call
from chatbot.worker.models.errors import CallCancelled, ModelError
from chatbot.worker.models.http import ModelServer
from chatbot.worker.models.masking import address
from chatbot.worker.prompts import PromptMessage, estimated_tokens

QUESTION = "Hello! Say in one sentence who you are."
#: Kinds of `ModelError` that mean that nobody answered at all.
_UNREACHABLE = ("connection", "tls", "address")
#: Names of models that are shown, of those that a server offers.
_OFFERED = 5

Say = Callable[[str], object]


def check(settings: Settings, say: Say) -> bool:
    """Whether every server gave a reply; `say` gets each line of the report."""
    replied = 0
    for server in settings.model.servers:
        replied += _check(server, settings, say)
    if len(settings.model.servers) > 1:
        say(f"{replied} of {len(settings.model.servers)} model servers replied")
    return replied == len(settings.model.servers)


def _check(server: ModelAddress, settings: Settings, say: Say) -> bool:
    say(f"address:   {address(server.url)}")
    say(f"protocol:  {server.api}")
    login = "in the address, before which HUGGINGFACE_INFERENCE_TOKEN counts nothing"
    say(f"token:     {login if '@' in urlsplit(server.url).netloc else 'set' if settings.model.token else 'not set'}")
    reply, reason, pieces = "", "", 0
    began, first = time.monotonic(), 0.0
    try:
        with closing(
            create_adapter(server, settings).generate([PromptMessage("user", QUESTION)], Call(settings.model.timeout))
        ) as answer:
            for piece in answer:
                if piece.text:
                    first = first or time.monotonic() - began
                    pieces += 1
                reply += piece.text
                reason = piece.finish_reason or ""
        failure = None
    except ModelError as error:
        failure = error
    except CallCancelled:
        what = "a reply that goes on for too long" if reply else "silence"
        say(f"verdict:   NO REPLY: {what}, ended after MODEL_TIMEOUT, {settings.model.timeout:g} s")
        return False
    took = time.monotonic() - began
    unreachable = failure is not None and failure.kind in _UNREACHABLE
    say(f"reachable: {'no' if unreachable else 'yes'}")
    if not unreachable:
        say(f"model:     {_model(server, settings)}")
    if failure is not None:
        say(f"verdict:   NO REPLY: {failure}")
        return False
    say(f"reply:     {reply!r}")
    say(f"ended by:  {'the length limit, MAX_NEW_TOKENS' if reason == 'length' else 'the model'}")
    say(f"streamed:  {f'yes, {pieces} pieces' if pieces > 1 else 'no'}")
    say(f"time:      {first:.2f} s to the first token, {took:.2f} s in all")
    if pieces > 1 and took > first:
        say(f"speed:     {(pieces - 1) / (took - first):.1f} tokens/s, each piece taken for one")
    else:
        say(f"speed:     {estimated_tokens(reply) / took:.1f} tokens/s, estimated from the reply's length")
    say("verdict:   OK" if reply else "verdict:   OK, but the reply is empty")
    return True


def _model(server: ModelAddress, settings: Settings) -> str:
    """The model's name as the server tells it, beside the one that it is asked for."""
    offered = _offered(server, settings)
    if server.api == HUGGINGFACE:
        # The protocol names no model: whatever the server runs answers.
        return offered[0] if offered else "not told"
    if not offered:
        return f"{settings.model.name} (the server lists none)"
    if settings.model.name in offered:
        return f"{settings.model.name}, which the server lists"
    more = ", ..." if len(offered) > _OFFERED else ""
    return f"asked for as {settings.model.name} (MODEL_NAME); the server lists {', '.join(offered[:_OFFERED])}{more}"


def _offered(server: ModelAddress, settings: Settings) -> list[str]:
    parts = urlsplit(server.url)
    if server.api == HUGGINGFACE:
        path = parts.path.rstrip("/").removesuffix("_stream").removesuffix("/generate") + "/info"
    else:
        path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat") + "/models"
    told = ModelServer(server.url, settings).get(parts._replace(path=path).geturl())
    if not isinstance(told, dict):
        return []
    listed = [told.get("model_id")]
    if isinstance(told.get("data"), list):
        listed = [model.get("id") for model in told["data"] if isinstance(model, dict)]
    return [name for name in listed if isinstance(name, str)]
