"""Asks each configured model server, or the callable, one question and reports the outcome, at a terminal."""

from __future__ import annotations

import base64
import html
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from chatbot.config import HUGGINGFACE, PYTHON, ModelAddress, ModelSettings, Settings
from chatbot.config.sources import describe_sources
from chatbot.errors import ConfigurationError
from chatbot.protocol.documents import utc_now
from chatbot.worker.bots.model import PythonModel
from chatbot.worker.models import create_protocol
from chatbot.worker.models.base import Model, ModelProtocol
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import CannotContinue
from chatbot.worker.models.errors import CallCancelled, ModelError
from chatbot.worker.models.http.endpoint import ModelEndpoint, check_certificate, public_address
from chatbot.worker.prompts import PromptMessage, estimated_tokens

QUESTION = "Hello! Say in one sentence who you are."
#: What names the model; of the token the report has a line of its own.
_VARIABLES = ("MODEL_CALLABLE", "MODEL_URL", "MODEL_API", "MODEL_NAME")
_NONE_SET = (
    "the defaults, as neither the environment nor .env in this folder names a model\n           "
    "If the chat was started with MODEL_URL, MODEL_CALLABLE or others, write the same before this command, or into .env"
)
#: Kinds of `ModelError` that mean that no server answered.
_UNREACHABLE = ("connection", "tls", "address")
#: Seconds after which a line says what is waited for, and how long at most.
_QUIET = 2.0
#: Seconds after its deadline at which a call ends: a silent server has ended it before, and its error says more.
_GRACE = 1.0
#: Seconds within which a server lists its models.
_LIST_TIMEOUT = 3.0
#: Names shown of the models that a server lists.
_MAX_NAMES = 5
#: Characters shown of a server's error text.
_MAX_TEXT = 300

#: What ended a reply, other than the model itself.
_ENDS = {"length": "the length limit, MAX_NEW_TOKENS", "content_filter": "the server's content filter"}

Print = Callable[[str], object]


@dataclass
class _Reply:
    """The model's reply, with times in seconds from the start of the call."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    chunks: int = 0
    first_at: float = 0.0
    took: float = 0.0


def check(settings: Settings, say: Print) -> bool:
    """Whether every server, or the callable, gave a reply; `say` prints each line of the report."""
    if settings.model.api == PYTHON:
        return _check_callable(str(settings.model.callable), settings, say)
    try:
        check_certificate(settings.model.client_certificate)
    except ConfigurationError as error:
        say(f"NO REPLY: {error}")
        return False
    replied = 0
    for server in settings.model.servers:
        replied += _check(server, settings, say)
    if len(settings.model.servers) > 1:
        say(f"{replied} of {len(settings.model.servers)} model servers replied")
    return replied == len(settings.model.servers)


def sources() -> str:
    """The first line of the report: which settings of this process name what is checked, and where they are set."""
    return f"settings:  {describe_sources(_VARIABLES) or _NONE_SET}"


def _check(server: ModelAddress, settings: Settings, say: Print) -> bool:
    say(f"address:   {public_address(server.url)}")
    say(f"protocol:  {server.api}")
    login = "in the address, which takes precedence over HUGGINGFACE_INFERENCE_TOKEN"
    say(f"token:     {login if '@' in urlsplit(server.url).netloc else 'set' if settings.model.token else 'not set'}")
    model, call, reply, failure = create_protocol(server, settings), _call(settings), _Reply(), None
    waits = f"the first token at most {_silence(settings)}, the end of the reply at most {_whole(settings)} more"
    try:
        with _watched(call, waits, say):
            _ask(model, call, reply)
    except CallCancelled:
        say(_too_late(call, settings))
        return False
    except ModelError as error:
        failure = error
    unreachable = failure is not None and failure.kind in _UNREACHABLE
    say(f"reachable: {'no' if unreachable else 'yes'}")
    if not unreachable:
        say(f"model:     {_model(server, settings)}")
    if failure is not None:
        if failure.server_text:
            say(f"server:    {_without_credentials(failure.server_text, server.url, settings.model.token)}")
        say(f"verdict:   NO REPLY: {failure}")
        if failure.kind == "connection" and server == ModelSettings.servers[0]:
            say(
                "           Here `make run` serves its model by default, while it runs. MODEL_URL names another server."
            )
        return False
    say(f"continues: {_continues(model, settings, reply.text, say)}")
    _report(reply, say)
    return True


def _continues(model: ModelProtocol, settings: Settings, text: str, say: Print) -> str:
    """Whether the server continues a reply that was cut off in the middle, and how."""
    if settings.model.continuing == "off":
        return "not asked, MODEL_CONTINUE is off"
    half = [PromptMessage("user", QUESTION), PromptMessage("assistant", text[: len(text) // 2].rstrip(), begins=True)]
    if not half[1].text:
        return "not asked, the reply is too short"
    call = _call(settings)
    waits = f"the first token of a reply that goes on, at most {_silence(settings)}"
    try:
        with _watched(call, waits, say), closing(model.generate(half, call)) as pieces:
            for _ in pieces:
                break
    except CannotContinue as error:
        return f"no, {error.detail}: a reply that was cut off begins again"
    except (ModelError, CallCancelled) as error:
        return f"unknown, {error}"
    return f"yes, a reply that was cut off goes on (by {model.continuation.ways[0]})"


def _check_callable(name: str, settings: Settings, say: Print) -> bool:
    say(f"callable:  {name}")
    call, reply = _call(settings), _Reply()
    waits = f"the first text at most {call.first_limit}, the end of the reply at most {_whole(settings)} more"
    try:
        with _watched(call, waits, say):
            _ask(PythonModel(name, lambda _: ("model-check", utc_now()), 1), call, reply)
    except (ConfigurationError, ModelError) as error:
        say(f"verdict:   NO REPLY: {error}")
        return False
    except CallCancelled:
        say(_too_late(call, settings))
        return False
    _report(reply, say)
    return True


def _call(settings: Settings) -> Call:
    return Call(settings.model.timeout, loading_timeout=settings.model.loading_timeout)


def _silence(settings: Settings) -> str:
    if settings.model.loading_timeout > settings.model.read_timeout:
        return f"MODEL_LOADING_TIMEOUT, {settings.model.loading_timeout:g} s"
    return f"MODEL_READ_TIMEOUT, {settings.model.read_timeout:g} s"


def _whole(settings: Settings) -> str:
    return f"MODEL_TIMEOUT, {settings.model.timeout:g} s"


def _too_late(call: Call, settings: Settings) -> str:
    if call.begun:
        return f"verdict:   NO REPLY: the reply did not end within {_whole(settings)}"
    return f"verdict:   NO REPLY: no text arrived within {call.first_limit}"


def _ask(model: Model, call: Call, reply: _Reply) -> None:
    """Fills `reply` while it arrives. Raises `ModelError` and `CallCancelled`."""
    began = time.monotonic()
    question = [PromptMessage("user", QUESTION)]
    with closing(model.generate(question, call)) as pieces:
        for piece in pieces:
            if piece.retracts:
                reply.reasoning, reply.text = reply.reasoning + reply.text, ""
            if piece.text or piece.reasoning:
                reply.first_at = reply.first_at or time.monotonic() - began
                reply.chunks += 1
            reply.text += piece.text
            reply.reasoning += piece.reasoning
            reply.finish_reason = piece.finish_reason or ""
    reply.took = time.monotonic() - began


@contextmanager
def _watched(call: Call, waits: str, say: Print) -> Iterator[None]:
    """Says what the call `waits` for once it takes longer than a moment, and ends it soon after its deadline."""
    ended = threading.Event()

    def watch() -> None:
        if not ended.wait(min(_QUIET, call.deadline - time.monotonic())):
            say(f"waiting:   for {waits}")
        while not ended.wait(max(call.deadline + _GRACE - time.monotonic(), 0)):
            # The deadline is a later one once the first token is there.
            if call.deadline + _GRACE <= time.monotonic():
                call.cancel("deadline")
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _report(reply: _Reply, say: Print) -> None:
    streamed, written = reply.chunks > 1, reply.reasoning + reply.text
    say(f"reply:     {reply.text!r}")
    if reply.reasoning:
        say(f"thinking:  {len(reply.reasoning)} characters, kept apart from the reply")
    say(f"ended by:  {_ENDS.get(reply.finish_reason, 'the model')}")
    say(f"streamed:  {f'yes, {reply.chunks} chunks' if streamed else 'no'}")
    say(f"time:      {reply.first_at:.2f} s to the first token, {reply.took:.2f} s in all")
    if streamed and reply.took > reply.first_at:
        rate = (reply.chunks - 1) / (reply.took - reply.first_at)
        say(f"speed:     {rate:.1f} chunks/s; most servers send a token in each")
    else:
        say(f"speed:     {estimated_tokens(written) / reply.took:.1f} tokens/s, estimated from the reply's length")
    say("verdict:   OK" if reply.text else "verdict:   OK: the server answers, with an empty reply")


def _model(server: ModelAddress, settings: Settings) -> str:
    """The configured model's name, beside those that the server lists."""
    listed = _listed_models(server, settings)
    if server.api == HUGGINGFACE:
        # A request of this protocol names no model: the server has one.
        return listed[0] if listed else "unknown"
    unnamed = server == ModelSettings.servers[0] and settings.model.name == ModelSettings.name
    if unnamed and listed and len(listed) == 1:
        return f"{listed[0]}, as the server lists; `make run` sets MODEL_NAME for its own model"
    if not listed:
        within = f" within {_LIST_TIMEOUT:g} s" if listed is None else ""
        return f"{settings.model.name} (the server lists none{within})"
    if settings.model.name in listed:
        return f"{settings.model.name}, which the server lists"
    more = ", ..." if len(listed) > _MAX_NAMES else ""
    names = f"{', '.join(listed[:_MAX_NAMES])}{more}"
    return f"{settings.model.name} (MODEL_NAME), which the server does not list; it lists {names}"


def _listed_models(server: ModelAddress, settings: Settings) -> list[str] | None:
    """The names that the server lists; None if it did not answer in time."""
    parts = urlsplit(server.url)
    if server.api == HUGGINGFACE:
        path = parts.path.rstrip("/").removesuffix("_stream").removesuffix("/generate") + "/info"
    else:
        path = parts.path.rstrip("/").removesuffix("/responses").removesuffix("/completions").removesuffix("/chat")
        path += "/models"
    call = Call(_LIST_TIMEOUT)
    timer = threading.Timer(_LIST_TIMEOUT, call.cancel, ["deadline"])
    timer.start()
    document = ModelEndpoint(server.url, settings).get(parts._replace(path=path).geturl(), call)
    timer.cancel()
    if not isinstance(document, dict):
        return None if call.cancelled else []
    listed = [document.get("model_id")]
    if isinstance(document.get("data"), list):
        listed = [model.get("id") for model in document["data"] if isinstance(model, dict)]
    return [name for name in listed if isinstance(name, str)]


def _without_credentials(text: str, url: str, token: str | None) -> str:
    """The server's text, cut and quoted; a remark in its place when it repeats a credential."""
    text = html.unescape(text)
    if any(secret.casefold() in text.casefold() for secret in _credentials(url, token)):
        return "(not shown: the text repeats a credential, or the query of the address)"
    return repr(text[:_MAX_TEXT])


def _credentials(url: str, token: str | None) -> Iterator[str]:
    parts = urlsplit(url)
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    basic = base64.b64encode(login.encode()).decode() if parts.username else None
    for secret in (token, basic, parts.username, parts.password, parts.query, *dict(parse_qsl(parts.query)).values()):
        for form in (secret, unquote(secret)) if secret else ():
            yield from (form, json.dumps(form)[1:-1])
