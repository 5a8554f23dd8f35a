"""Who may use `/v1`: whether an API key is required, whose key a request carries, and what its key has left."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from flask import Response, g

from chatbot import config
from chatbot.api_keys.charges import Charges, KeyUnknown, Limit, OverLimit
from chatbot.api_keys.keys import PREFIX, ApiKey, ApiKeys
from chatbot.errors import StoreUnavailable
from chatbot.protocol.client_errors import ClientError
from chatbot.sessions.requests import Accepted
from chatbot.store.partitions import Store, partitions_of
from chatbot.web.hosts import is_loopback

logger = logging.getLogger(__name__)

#: Bytes of a text for one token, at least: what is reserved for a prompt before a model counts it.
_BYTES_PER_TOKEN = 3
#: An image in a request, and tokens that are reserved for it: models take some hundreds to some thousands.
_IMAGE, _IMAGE_TOKENS = re.compile(r"data:image/[\w.+-]+;base64,[A-Za-z0-9+/=]*"), 1000


class KeyAccess:
    """The API keys, as the routes below `/v1` use them. Every method raises `StoreUnavailable` when Redis fails."""

    def __init__(self, settings: config.Settings, store: Store) -> None:
        self.keys = ApiKeys(partitions_of(store).home.client)
        self.charges = Charges(store, wait_replicas=settings.redis.wait_replicas)
        self._completion = settings.model.max_new_tokens
        self._web = settings.web
        self._addresses: Sequence[Any] = ((settings.web.host, settings.web.port),)

    def bind(self, addresses: Sequence[Any]) -> None:
        """Sets where gunicorn listens, which `-b` may change, and logs whether keys are required there."""
        self._addresses = addresses
        verdict = "required" if self.required else "not required"
        logger.info("API keys are %s for /v1: API_KEYS=%s, %s", verdict, self._web.api_keys, self._reach())

    @property
    def required(self) -> bool:
        if self._web.api_keys == "auto":
            return self._reach() != "only this machine reaches the server"
        return self._web.api_keys == "required"

    def _reach(self) -> str:
        if not all(isinstance(address, tuple) and is_loopback(address[0]) for address in self._addresses):
            return "other machines reach the server"
        if self._web.trusted_proxies or self._web.allowed_hosts:
            return "a proxy passes requests of other machines on"
        return "only this machine reaches the server"

    def caller(self, secret: str | None) -> ApiKey | None:
        """The key of a request that carries `secret`; None where no key is required. Raises `ClientError`."""
        if not self.required:
            return None
        key = self.keys.find(secret) if secret and secret.startswith(PREFIX) else None
        if key is None:
            raise _unauthorized("Send an API key of this server as a bearer token" if not secret else _INVALID)
        return key

    def accept(
        self,
        key: ApiKey | None,
        session: str,
        message_id: str,
        text: str,
        step: Callable[[str], Accepted],
        completion: int | None = None,
    ) -> Accepted:
        """What `step(charge)` returns, which accepts the request `message_id` of a session with the charge of its key.

        `text` is what the request adds to the prompt, `completion` the tokens that its reply may have. Raises
        `ClientError` for a revoked key or one over a limit; a request that is refused or repeated takes nothing.
        """
        if key is None:
            return step("")
        # An image's Base64 says nothing of its tokens.
        bytes_of_text = len(_IMAGE.sub("", text).encode("utf-8", "replace"))
        prompt = math.ceil(bytes_of_text / _BYTES_PER_TOKEN) + _IMAGE_TOKENS * len(_IMAGE.findall(text))
        try:
            reserved = self.charges.reserve(
                key.id, session, message_id, prompt=prompt, completion=completion or self._completion
            )
        except KeyUnknown:
            raise _unauthorized(_INVALID) from None
        except OverLimit as over:
            g.key_limits = over.limits
            raise _over_limit(over) from None
        g.key_limits = reserved.limits
        try:
            accepted = step(reserved.charge)
        except ClientError:
            self._release(reserved.charge)
            raise
        if accepted.repeated:
            self._release(reserved.charge)
        return accepted

    def _release(self, charge: str) -> None:
        try:
            self.charges.release(charge)
        except StoreUnavailable as error:
            logger.warning("a reservation is left to the next check: %s", error)


_INVALID = "This API key is unknown or was revoked"


def _unauthorized(message: str) -> ClientError:
    return ClientError("invalid_api_key", message, status=401)


def _over_limit(over: OverLimit) -> ClientError:
    limit = over.limit
    what = f"{limit.limit} {limit.counted} a {limit.period}"
    if limit.period == "minute":
        text = f"This API key is over its rate of {what}: {limit.left} are left, send this again later"
        return ClientError("rate_limit_exceeded", text, status=429, retry_after=over.retry_after)
    text = f"This API key has {limit.left} of its {what} left, fewer than this request may take"
    text += f"; the next {limit.period} begins in {_duration(limit.reset)}"
    return ClientError("insufficient_quota", text, status=429, retry_after=over.retry_after)


def add_limit_headers(response: Response) -> Response:
    """Adds what the key of the request has left: of requests and of tokens, by the limit with the least left."""
    limits: list[Limit] = g.get("key_limits", [])
    for counted in ("requests", "tokens"):
        found = min((limit for limit in limits if limit.counted == counted), key=lambda limit: limit.left, default=None)
        if found is not None:
            response.headers[f"x-ratelimit-limit-{counted}"] = str(found.limit)
            response.headers[f"x-ratelimit-remaining-{counted}"] = str(found.left)
            response.headers[f"x-ratelimit-reset-{counted}"] = _duration(found.reset)
    return response


def _duration(seconds: float) -> str:
    """Such as `1h2m3s`, as OpenAI's headers write it."""
    left = math.ceil(seconds)
    parts = ((left // 3600, "h"), (left // 60 % 60, "m"), (left % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
