"""The text-generation protocol of Hugging Face: `inputs` and `parameters` in, `generated_text` out.

Source: the HTTP interface of text-generation-inference, `POST /` and `/generate`, and its event streams.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from chatbot.config import Settings
from chatbot.worker.models.answers.piece import Pieces
from chatbot.worker.models.answers.reading import read_reply
from chatbot.worker.models.base import ModelProtocol
from chatbot.worker.models.call import Call
from chatbot.worker.models.continuation import Continuation, Way
from chatbot.worker.models.dialect import Dialect, remaining
from chatbot.worker.models.errors import PermanentModelError
from chatbot.worker.models.http.endpoint import ModelEndpoint
from chatbot.worker.models.protocols.request_options import named, with_options
from chatbot.worker.prompts import STOP_SEQUENCES, PromptMessage, completion_prompt

#: Stop sequences that the server takes.
_MAX_STOPS = 4
#: Seconds for which a server that answered `/generate` but not `/generate_stream` is not asked for the latter again.
_STREAM_RETRY = 60.0


class TextGenerationProtocol(ModelProtocol):
    """A base model; the prompt consists of `Human:` and `Bot:` lines."""

    stop_sequences = STOP_SEQUENCES

    def __init__(self, endpoint: ModelEndpoint, settings: Settings) -> None:
        self._endpoint = endpoint
        self._parameters: dict[str, Any] = {
            "max_new_tokens": settings.model.max_new_tokens,
            "return_full_text": False,
            # The server refuses a temperature of 0; this stands for it.
            "do_sample": settings.model.temperature != 0,
            "stop": list(self.stop_sequences),
            # Without it a stream does not say why it ended.
            "details": True,
        }
        if settings.model.temperature:
            self._parameters["temperature"] = settings.model.temperature
        if settings.model.top_p is not None and 0 < settings.model.top_p < 1:
            self._parameters["top_p"] = settings.model.top_p
        if settings.model.seed is not None:
            self._parameters["seed"] = settings.model.seed
        if settings.model.use_cache is not None:
            self._parameters["use_cache"] = settings.model.use_cache
        droppable = {"temperature", "top_p", "seed", *self._parameters} - {"max_new_tokens"}
        self.dialect = Dialect(endpoint.public_address, droppable=droppable)
        ways: tuple[Way, ...] = () if settings.model.continuing == "off" else ("prompt",)
        self.continuation = Continuation(endpoint.public_address, ways, proven=True)
        #: `/generate` never streams; `/generate_stream` does, but not every server has it.
        self._stream_url = _stream_url(endpoint.url)
        self._plain_until = 0.0

    def _request(self, conversation: Sequence[PromptMessage], call: Call, way: Way | None) -> Pieces:
        prompt = completion_prompt(conversation)
        given = self._parameters
        if call.options is not None:
            given = _with_options(given, call.options)
        limited = remaining(given, "max_new_tokens", call.generated)
        return self._adapted(
            lambda _, parameters: self._ask(prompt, parameters, call), limited, own=named(call.options)
        )

    def _ask(self, prompt: str, parameters: dict[str, Any], call: Call) -> Pieces:
        request = {"inputs": prompt, "parameters": parameters, "stream": True}
        if self._stream_url is None or time.monotonic() < self._plain_until:
            return self._post(request, call, self._endpoint.url)
        return self._stream(request, call, self._stream_url)

    def _stream(self, request: dict[str, Any], call: Call, url: str) -> Pieces:
        """The chunks from the address that streams, or else from the other one."""
        try:
            yield from self._post(request, call, url)
            return
        except PermanentModelError as error:
            if error.kind != "not_found":
                raise
        with closing(self._post(request, call, self._endpoint.url)) as pieces:
            for piece in pieces:
                # Without an answer here either, the 404 was that of a server that starts, or of a proxy.
                self._plain_until = time.monotonic() + _STREAM_RETRY
                yield piece

    def _post(self, request: dict[str, Any], call: Call, url: str) -> Pieces:
        with self._endpoint.post(request, call, url) as response:
            yield from read_reply(
                response, prompt=request["inputs"], max_tokens=request["parameters"]["max_new_tokens"]
            )


def _with_options(parameters: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with those that the request names, as far as the server accepts their values."""
    found = with_options(parameters, options, "max_new_tokens")
    for name in ("presence_penalty", "frequency_penalty"):
        found.pop(name, None)
    found["stop"] = [*STOP_SEQUENCES, *options.get("stop", ())][:_MAX_STOPS]
    if found.get("temperature") == 0:
        del found["temperature"]
        found["do_sample"] = False
    elif "temperature" in found:
        found["do_sample"] = True
    if found.get("top_p") in (0, 1):
        del found["top_p"]
    return found


def _stream_url(url: str) -> str | None:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return parts._replace(path=path + "_stream").geturl() if path.endswith("/generate") else None
