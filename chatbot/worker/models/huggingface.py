"""The text-generation protocol of Hugging Face: `inputs` and `parameters` in, `generated_text` out.

Source: the HTTP interface of text-generation-inference, `POST /` and `/generate`, and its event streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chatbot.config import Settings
from chatbot.errors import TransientModelError
from chatbot.worker.models import sse
from chatbot.worker.models.base import Call, Model, Piece
from chatbot.worker.models.http import Answer, ModelServer, raise_for_error
from chatbot.worker.prompts import STOP_SEQUENCES, Turn, completion_prompt

_FINISH_REASONS = {"length": "length"}


class TextGeneration(Model):
    """A base model, asked by a prompt of `Human:` and `Bot:` lines."""

    stop_sequences = STOP_SEQUENCES

    def __init__(self, server: ModelServer, settings: Settings) -> None:
        self._server = server
        self._max_new_tokens = settings.max_new_tokens
        self._parameters: dict[str, Any] = {
            "max_new_tokens": settings.max_new_tokens,
            "return_full_text": False,
            # A temperature of 0 is spelled so; the server refuses the number.
            "do_sample": settings.temperature != 0,
            "stop": list(self.stop_sequences),
            # Without it a stream does not say why it ended.
            "details": True,
        }
        if settings.temperature:
            self._parameters["temperature"] = settings.temperature
        if settings.top_p is not None and 0 < settings.top_p < 1:
            self._parameters["top_p"] = settings.top_p
        if settings.seed is not None:
            self._parameters["seed"] = settings.seed

    def generate(self, conversation: Sequence[Turn], call: Call) -> Iterator[Piece]:
        request = {
            "inputs": completion_prompt(conversation),
            "parameters": self._parameters,
            "stream": True,
        }
        with self._server.post(request, call) as answer:
            yield from self._stream(answer) if answer.is_stream else self._whole(answer, request["inputs"])

    def _stream(self, answer: Answer) -> Iterator[Piece]:
        tokens = 0
        for data in sse.events(answer.chunks()):
            event = sse.parse(data)
            raise_for_error(event)
            token = event.get("token")
            if isinstance(token, dict):
                tokens += 1
                text = token.get("text")
                if isinstance(text, str) and text and not token.get("special"):
                    yield Piece(text)
            whole = event.get("generated_text")
            if whole is not None:
                yield Piece("", self._finish_reason(event.get("details"), tokens))
                return
        raise TransientModelError("cut_off", f"the stream ended after {tokens} tokens, without its last event")

    def _whole(self, answer: Answer, prompt: Any) -> Iterator[Piece]:
        document = answer.json()
        raise_for_error(document)
        result = document[0] if isinstance(document, list) and document else document
        raise_for_error(result)
        text = result.get("generated_text") if isinstance(result, dict) else None
        if not isinstance(text, str):
            raise TransientModelError("bad_answer", "the answer holds no generated_text")
        # Some servers know no return_full_text.
        text = text.removeprefix(prompt)
        details = result.get("details") if isinstance(result, dict) else None
        yield Piece(text, self._finish_reason(details, 0))

    def _finish_reason(self, details: Any, tokens: int) -> str:
        if isinstance(details, dict) and isinstance(details.get("finish_reason"), str):
            return _FINISH_REASONS.get(details["finish_reason"], "stop")
        return "length" if tokens >= self._max_new_tokens else "stop"
