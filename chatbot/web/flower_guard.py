"""Protects Flower: refuses other hosts, forbids framing, slows down guesses at its password. See flowerconfig.py."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import flower.command
from flower.app import Flower
from flower.views import BaseHandler
from flower.views.monitor import Healthcheck, Metrics
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import HTTPError, OutputTransform, RequestHandler

from chatbot.web.hosts import REFUSAL, host_allowed

#: Sent with every answer.
_HEADERS = {
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: Seconds between two passwords from an address that are compared, once one was wrong.
_PENALTY = 1.0
#: Seconds that a request waits for that, at most; further ones are refused.
_LONGEST_WAIT = 5.0
#: Addresses above which those without a penalty are removed.
_MAX_ADDRESSES = 1000


class _Penalties:
    """When the next password from an address may be compared, by the monotonic clock."""

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def reserve(self, address: str) -> float:
        """Seconds until the address has its turn, which counts as used; 0 without a penalty. Raises `HTTPError`."""
        now = time.monotonic()
        wait = self._free_at.get(address, now) - now
        if wait <= 0:
            return 0.0
        if wait > _LONGEST_WAIT:
            raise HTTPError(429, "Too many wrong passwords: try again later")
        self._free_at[address] += _PENALTY
        return wait

    def add(self, address: str) -> None:
        """Records a wrong password of an address without a penalty."""
        now = time.monotonic()
        if len(self._free_at) >= _MAX_ADDRESSES:
            self._free_at = {other: free_at for other, free_at in self._free_at.items() if free_at > now}
        self._free_at[address] = now + _PENALTY


_penalties = _Penalties()


class _PacedLogin(RequestHandler):
    """A mixin for Flower's handlers: compares the password before anything else, at the pace of `_penalties`."""

    async def prepare(self) -> None:
        address = self.request.remote_ip or ""
        wait = _penalties.reserve(address)
        if wait:
            # Right and wrong passwords alike: who drops slow requests must not learn which are wrong.
            await asyncio.sleep(wait)
        try:
            self.get_current_user()
        except HTTPError:
            if not wait:
                _penalties.add(address)
                await asyncio.sleep(_PENALTY)
            raise
        prepared = super().prepare()
        if prepared is not None:
            await prepared


@cache
def _paced(handler: type[RequestHandler]) -> type[RequestHandler]:
    return type(handler.__name__, (_PacedLogin, handler), {})


class _HostRefused(RequestHandler):
    def check_xsrf_cookie(self) -> None:
        """The request is refused in any case."""

    def prepare(self) -> None:
        self.set_status(400)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": {"code": "host_not_allowed", "message": REFUSAL}}))


class _AddHeaders(OutputTransform):
    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in _HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


class _GuardedFlower(Flower):  # type: ignore[misc]
    hosts: Sequence[str] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, transforms=[_AddHeaders], **kwargs)

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Called by tornado for every request, before any handler is made."""
        host = request.headers.get("Host")
        if host is not None and not host_allowed(host, self.hosts):
            return super().get_handler_delegate(request, _HostRefused)
        return super().find_handler(request, **kwargs)

    def get_handler_delegate(self, request: HTTPServerRequest, target_class: Any, *args: Any, **kwargs: Any) -> Any:
        asks_for_password = issubclass(target_class, BaseHandler) and not issubclass(
            target_class, (Healthcheck, Metrics)
        )
        if self.options.basic_auth and "Authorization" in request.headers and asks_for_password:
            target_class = _paced(target_class)
        return super().get_handler_delegate(request, target_class, *args, **kwargs)


def install(hosts: Sequence[str]) -> None:
    """Has `celery flower` start a protected Flower that serves `hosts`: its command takes the class by this name."""
    _GuardedFlower.hosts = hosts
    flower.command.Flower = _GuardedFlower
