"""The two protocols: requests as parsed, and replies as sent, streamed and whole."""

from __future__ import annotations

import itertools
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from devtools.fake_model.faults import ERRORS, RefusedError, as_object
from devtools.fake_model.orders import last_bot, last_human
from devtools.fake_model.tools import call_for, deltas, image_count

UNLIMITED = sys.maxsize
DEFAULT_NEW_TOKENS = 100  # what TGI generates when the request names no limit
DEFAULT_MAX_TOKENS = 16  # the same in OpenAI's /v1/completions
MAX_STOPS = 4  # TGI's default
EOS, EOS_ID = "<|endoftext|>", 50256  # of GPT-J

# The number of tokens in it (0 or 1), and the bytes to send. Only a token waits for its time.
Event = tuple[int, bytes]
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_bytes(value: Any) -> bytes:
    """JSON. A "\\udcff" in the value becomes the byte ff, so that a reply can be invalid UTF-8."""
    return encode(value).encode("utf-8", "surrogateescape")


class TextGenerationRequest:
    """A request of the protocol of text-generation-inference (TGI) and of Hugging Face's hosted service."""

    openai = chat = False
    messages: list[Any] | None = None
    CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("max_new_tokens", lambda value: value > 0, "must be strictly positive"),
        ("temperature", lambda value: value > 0, "must be strictly positive"),
        ("repetition_penalty", lambda value: value > 0, "must be strictly positive"),
        ("top_k", lambda value: value > 0, "must be strictly positive"),
        ("top_p", lambda value: 0 < value < 1, "must be > 0.0 and < 1.0"),
    )

    def __init__(self, path: str, body: dict[str, Any]) -> None:
        prompt, parameters = body.get("inputs"), body.get("parameters") or {}
        if not isinstance(prompt, str) or not isinstance(parameters, dict):
            raise RefusedError(422, "Failed to deserialize the JSON body into the target type: `inputs`")
        if not prompt:
            raise RefusedError(422, "Input validation error: `inputs` cannot be empty")
        for name, holds, complaint in self.CHECKS:
            value = parameters.get(name)
            if value is not None and not (isinstance(value, int | float) and holds(value)):
                raise RefusedError(422, f"Input validation error: `{name}` {complaint}")
        stops = parameters.get("stop", [])
        if not isinstance(stops, list):
            raise RefusedError(422, "Failed to deserialize the JSON body: `stop`: expected a sequence")
        if len(stops) > MAX_STOPS:
            complaint = f"`stop` supports up to {MAX_STOPS} stop sequences. Given: {len(stops)}"
            raise RefusedError(422, f"Input validation error: {complaint}")
        self.prompt, self.human, self.partial = prompt, last_human(prompt), last_bot(prompt)
        self.stops: tuple[str, ...] = tuple(stops)
        self.limit: int = parameters.get("max_new_tokens", DEFAULT_NEW_TOKENS) or UNLIMITED
        self.details = bool(parameters.get("details"))
        self.compat = path not in ("/generate", "/generate_stream")
        self.stream = path == "/generate_stream" or (self.compat and body.get("stream") is True)
        full = parameters.get("return_full_text")
        self.before = prompt if (self.compat if full is None else full) else ""

    def run(self, tokens: Iterable[str]) -> Iterator[tuple[str, str, str | None]]:
        """Each token, the text up to it, and why it is the last. A stop is only detected at the end of a token."""
        text = ""
        for number, token in enumerate(itertools.chain(tokens, [EOS]), 1):
            if token is not EOS:
                text += token
            stopped = "stop_sequence" if self.stops and text.endswith(self.stops) else None
            finish = "length" if number >= self.limit else "eos_token" if token is EOS else stopped
            yield token, text, finish
            if finish:
                return

    def token(self, text: str) -> dict[str, Any]:
        identity = EOS_ID if text is EOS else zlib.crc32(text.encode("utf-8", "surrogateescape")) % EOS_ID
        return {"id": identity, "text": text, "logprob": -0.25, "special": text is EOS}

    def ending(self, finish: str | None, number: int) -> dict[str, Any]:
        return {"finish_reason": finish, "generated_tokens": number, "seed": None}

    def events(self, tokens: Iterable[str]) -> Iterator[Event]:
        for number, (token, text, finish) in enumerate(self.run(tokens), 1):
            event: dict[str, Any] = {"index": number, "token": self.token(token)}
            event |= {"generated_text": self.before + text if finish else None, "details": None}
            if finish and self.details:
                event["details"] = self.ending(finish, number) | {"input_length": len(self.prompt.split())}
            yield int(token is not EOS), b"data:%b\n\n" % to_bytes(event)

    def whole(self, tokens: Iterable[str]) -> tuple[int, Any]:
        steps = list(self.run(tokens))
        _, text, finish = steps[-1]
        answer: dict[str, Any] = {"generated_text": self.before + text}
        if self.details:
            tokens_sent = [self.token(token) for token, _, _ in steps]
            answer["details"] = self.ending(finish, len(steps)) | {"prefill": [], "tokens": tokens_sent}
        return sum(token is not EOS for token, _, _ in steps), [answer] if self.compat else answer

    def failure(self) -> bytes:
        return b"data:%b\n\n" % to_bytes(ERRORS["failed_dependency"][1])

    def broken(self) -> bytes:
        return b'data:{"index":4,"token":{"id":11,"te\n\n'


class OpenAIRequest:
    """A request for completions or chat completions of OpenAI, as vLLM and llama.cpp serve them."""

    openai = True
    FIELDS = frozenset({"model", "prompt", "messages", "max_tokens", "max_completion_tokens", "stop", "stream"})
    FIELDS |= {
        "stream_options",
        "prompt_cache_key",
        "temperature",
        "top_p",
        "n",
        "seed",
        "presence_penalty",
        "frequency_penalty",
    }
    FIELDS |= {"logit_bias", "logprobs", "top_logprobs", "user", "echo", "suffix", "best_of"}
    FIELDS |= {"tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"}

    def __init__(self, path: str, body: dict[str, Any], model: str, number: int) -> None:
        self.chat = path.endswith("/chat/completions")
        self.messages: list[Any] | None = None
        self.prompt: str | None = None
        self.call: dict[str, Any] | None = None
        if self.chat:
            messages = body.get("messages")
            if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
                raise RefusedError(400, "messages: Field required", "BadRequestError")
            said = [message.get("content") for message in messages if message.get("role") == "user"]
            parts = said[-1] if said and isinstance(said[-1], list) else [{"text": said[-1] if said else ""}]
            self.messages, self.human = messages, "".join(str(part.get("text", "")) for part in parts).strip()
            begun = messages and messages[-1].get("role") == "assistant"
            self.partial = str(messages[-1].get("content") or "") if begun else ""
            if messages and messages[-1].get("role") == "tool":
                self.human = str(messages[-1].get("content"))
            self.call = call_for(body, self.human, number)
            if images := image_count(messages):
                self.human = f"{self.human} [images: {images}]"
        else:
            prompt = body.get("prompt")
            prompt = prompt[0] if isinstance(prompt, list) and prompt else prompt
            if not isinstance(prompt, str):
                raise RefusedError(400, "prompt: Field required", "BadRequestError")
            self.prompt, self.human, self.partial = prompt, last_human(prompt), last_bot(prompt)
        stop = body.get("stop") or ()
        self.stops: tuple[str, ...] = (stop,) if isinstance(stop, str) else tuple(stop)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if not isinstance(limit, int | None):
            raise RefusedError(400, "max_tokens: Input should be a valid integer", "BadRequestError")
        self.limit: int = limit or (UNLIMITED if self.chat else DEFAULT_MAX_TOKENS)
        self.stream = body.get("stream") is True
        options = body.get("stream_options")
        self.reports = isinstance(options, dict) and options.get("include_usage") is True
        self.lax, self.unknown = False, sorted(body.keys() - self.FIELDS)
        kind = "chat.completion" if self.chat else "text_completion"
        self.head: dict[str, Any] = {"id": f"{'chatcmpl' if self.chat else 'cmpl'}-{number}"}
        self.head["object"] = f"{kind}.chunk" if self.chat and self.stream else kind
        self.head |= {"created": int(time.time()), "model": body.get("model") or model}

    def run(self, tokens: Iterable[str]) -> Iterator[tuple[int, str, str | None]]:
        """Each chunk, and why it is the last. A possible beginning of a stop text is held back."""
        held = ""
        for number, token in enumerate(tokens, 1):
            held += token
            found = [at for stop in self.stops if (at := held.find(stop)) >= 0]
            if found or number >= self.limit:
                trimmed = held[: min(found)] if found and not self.lax else held
                yield 1, trimmed, "stop" if found else "length"
                return
            kept = max((n for s in self.stops for n in range(1, len(s)) if held.endswith(s[:n])), default=0)
            yield 1, held[: len(held) - kept], None
            held = held[len(held) - kept :]
        yield 0, held, "stop"

    def chunk(self, delta: dict[str, Any], finish: str | None) -> bytes:
        choice: dict[str, Any] = {"index": 0, **({"delta": delta} if self.chat else delta)}
        if finish or not self.lax:
            choice |= {"logprobs": None, "finish_reason": finish}
        return b"data: %b\n\n" % to_bytes({**self.head, "choices": [choice]})

    def events(self, tokens: Iterable[str] | None) -> Iterator[Event]:
        if self.chat:
            yield 0, self.chunk({"role": "assistant", "content": ""}, None)
        name = "content" if self.chat else "text"
        sent = 0
        if self.call is not None:
            for delta in deltas(self.call):
                sent += 1
                yield 1, self.chunk(delta, None)
            yield 0, self.chunk({}, "tool_calls")
            tokens = None
        for count, piece, finish in () if tokens is None else self.run(tokens):
            sent += count
            yield count, self.chunk({name: piece}, finish) if piece or finish else b""
        if self.reports and not self.lax:
            yield 0, b"data: %b\n\n" % to_bytes({**self.head, "choices": [], "usage": self.used(sent)})
        if not self.lax:
            yield 0, b"data: [DONE]\n\n"

    def used(self, tokens: int) -> dict[str, Any]:
        """A cache holds half of each prompt, so that a test can distinguish the numbers."""
        asked = len((self.prompt or self.human).split())
        details = {"prompt_tokens_details": {"cached_tokens": asked // 2}}
        return {"prompt_tokens": asked, "completion_tokens": tokens, "total_tokens": asked + tokens, **details}

    def whole(self, tokens: Iterable[str]) -> tuple[int, Any]:
        if self.call is not None:
            message = {"role": "assistant", "content": None, "tool_calls": [self.call]}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
            return 1, {**self.head, "choices": [choice], "usage": self.used(1)}
        steps = list(self.run(tokens))
        text, sent = "".join(piece for _, piece, _ in steps), sum(count for count, _, _ in steps)
        # As llama.cpp does: the beginning that it continues is repeated, unlike in a stream.
        whole = self.partial + text
        said = {"message": {"role": "assistant", "content": whole}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": steps[-1][2]}
        return sent, {**self.head, "choices": [choice], "usage": self.used(sent)}

    def failure(self) -> bytes:
        return b"data: %b\n\ndata: [DONE]\n\n" % to_bytes(as_object(*ERRORS["failed_dependency"]))

    def broken(self) -> bytes:
        return b'data: {"id":"cmpl-1","object":"text_comp\n\n'
