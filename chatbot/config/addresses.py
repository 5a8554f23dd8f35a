"""Addresses that follow from several settings: that of Redis, and those of the model servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from chatbot.config.redis_urls import split_urls
from chatbot.store.sentinel import is_sentinel

HUGGINGFACE = "huggingface"
OPENAI_COMPLETIONS = "openai-completions"
OPENAI_CHAT = "openai-chat"
OPENAI_RESPONSES = "openai-responses"
PYTHON = "python"
MODEL_APIS = (HUGGINGFACE, OPENAI_COMPLETIONS, OPENAI_CHAT, OPENAI_RESPONSES, PYTHON)
#: The protocols that have function tools, images and JSON formats.
WITH_TOOLS = frozenset({OPENAI_CHAT, OPENAI_RESPONSES})

_OPENAI_PATHS = {
    OPENAI_COMPLETIONS: "/completions",
    OPENAI_CHAT: "/chat/completions",
    OPENAI_RESPONSES: "/responses",
}


@dataclass(frozen=True)
class ModelAddress:
    """A model server: the URL to post to, which may hold credentials, and the protocol, one of `MODEL_APIS` but
    `PYTHON`."""

    url: str = field(repr=False)
    api: str


def compose_redis_url(values: Mapping[str, Any]) -> str:
    """The URLs of Redis, separated by commas, from the values given of `RedisSettings`: `url`, or `host` and `port`,
    with `user` and `password`."""
    user, password = values.get("user", ""), values.get("password", "")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    if "url" in values:
        return ",".join(_with_login(url, login) for url in split_urls(values["url"]))
    host = values.get("host", "127.0.0.1")
    bracketed = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    has_port = ":" in host and bracketed.rpartition(":")[2].isdigit()
    address = bracketed if has_port else f"{bracketed}:{values.get('port', 6379)}"
    return f"redis://{login}{address}/0"


def names_user_alone(url: str) -> bool:
    """Whether a Redis URL has a user without a password, as a password without its colon looks like."""
    login, at, _ = urlsplit(url).netloc.rpartition("@")
    return bool(at) and ":" not in login


def with_sentinel_login(url: str, values: Mapping[str, Any]) -> str:
    """A Sentinel's URL, completed by `sentinel_user` and `sentinel_password`; other URLs are unchanged."""
    login = {"username": values.get("sentinel_user"), "password": values.get("sentinel_password")}
    query = urlencode({f"sentinel_{name}": value for name, value in login.items() if value})
    parts = urlsplit(url)
    if not is_sentinel(url) or not query or "sentinel_password" in parts.query:
        return url
    return parts._replace(query=f"{parts.query}&{query}" if parts.query else query).geturl()


def model_address(url: str, api: str | None) -> ModelAddress:
    """The address to post to; the URL's path gives the protocol where `api` is None."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if api is None:
        if path.endswith(("/chat/completions", "/v1")):
            api = OPENAI_CHAT
        elif path.endswith("/responses"):
            api = OPENAI_RESPONSES
        else:
            api = OPENAI_COMPLETIONS if path.endswith("/completions") else HUGGINGFACE
    if api in _OPENAI_PATHS:
        # The API's base URL will do.
        path = path or "/v1"
        path += _OPENAI_PATHS[api] if path.endswith("/v1") else ""
        url = parts._replace(path=path).geturl()
    return ModelAddress(url, api)


def _with_login(url: str, login: str) -> str:
    """The URL with `login`, unless it has a user and a password of its own."""
    parts = urlsplit(url)
    own, at, host = parts.netloc.rpartition("@")
    if not login or ":" in own:
        return url
    if at:
        login = f"{own}:{login.partition(':')[2]}"
    # `geturl` would leave the slashes of unix:/// out.
    return f"{parts.scheme}://{login}{host}{url.partition('://')[2].removeprefix(parts.netloc)}"
