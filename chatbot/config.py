"""All settings: read once from the environment and `.env`, checked at start, frozen from then on."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

import limits
from dotenv import load_dotenv

from chatbot.errors import ConfigurationError
from chatbot.store.sentinel import SENTINEL_SCHEMES, SentinelAddress

HUGGINGFACE = "huggingface"
OPENAI_COMPLETIONS = "openai-completions"
OPENAI_CHAT = "openai-chat"
MODEL_APIS = (HUGGINGFACE, OPENAI_COMPLETIONS, OPENAI_CHAT)

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
Rates = tuple[limits.RateLimitItem, ...]

_OPENAI_PATHS = {OPENAI_COMPLETIONS: "/completions", OPENAI_CHAT: "/chat/completions"}


@dataclass(frozen=True)
class ModelAddress:
    """A model server: where is posted to, and in which protocol. The URL may hold credentials."""

    url: str = field(repr=False)
    api: str


@dataclass(frozen=True)
class Settings:
    """The settings of one process. Times are in seconds unless the name says otherwise."""

    redis_url: str = field(repr=False, default="redis://127.0.0.1:6379/0")
    broker_url: str = field(repr=False, default="redis://127.0.0.1:6379/0")
    #: How many replicas must have a message before it is acknowledged.
    redis_wait_replicas: int = 0

    model_servers: tuple[ModelAddress, ...] = (ModelAddress("http://127.0.0.1:5001/v1/chat/completions", OPENAI_CHAT),)
    model_name: str = "EleutherAI/gpt-j-6B"
    model_token: str | None = field(repr=False, default=None)
    max_new_tokens: int = 256
    history_messages: int = 4
    #: An estimate bounds what of the history goes into a prompt; the newest message always does.
    max_prompt_tokens: int = 1792
    #: None leaves it to the server.
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    #: The tutorial's parameter, of the text-generation protocol only.
    use_cache: bool | None = None
    system_prompt: str = ""
    #: A model that takes longer to accept a connection is down.
    model_connect_timeout: float = 5.0
    #: Silence between two pieces of a reply, or before the first.
    model_read_timeout: float = 60.0
    #: One model call, from connecting to the last piece.
    model_timeout: float = 120.0
    #: Calls for one message before its failure is recorded; waits between them double from 1 s.
    model_attempts: int = 5
    #: How long a model server that failed is left alone where others can be asked.
    model_rest: float = 30.0
    #: How long a model may go on saying that it is being loaded before that counts as a failure.
    model_loading_timeout: float = 300.0

    #: A session's life after its last use.
    session_ttl: int = 3600
    max_message_length: int = 8000
    max_pending_messages: int = 8
    #: Messages that a history keeps, and all that are unanswered; 0 for all.
    max_history_messages: int = 20_000
    #: Of one web process.
    max_sockets: int = 12_000
    #: Of all web processes together; sockets that a lost network left behind count until pings find them out.
    max_sockets_per_session: int = 16
    #: No message is taken on while one has waited for a worker for longer; 0 for ever.
    max_queue_age: float = 60.0
    #: Whether the rates below are held.
    ratelimit_enabled: bool = True
    #: New sessions of one address. An office or a school shares one.
    ratelimit_sessions: Rates = tuple(limits.parse_many("600/minute"))
    ratelimit_session_messages: Rates = tuple(limits.parse_many("240/minute"))
    ratelimit_address_messages: Rates = tuple(limits.parse_many("3000/minute"))
    #: From whom X-Forwarded-For, -Proto and -Host are believed: networks, or how many proxies stand in front.
    trusted_proxies: Networks | int = ()
    allowed_origins: tuple[str, ...] = ()
    #: Seconds between pings; a socket that leaves one unanswered is closed at the next.
    ping_interval: float = 25.0

    host: str = "127.0.0.1"
    port: int = 5000
    worker_concurrency: int = 500
    #: What a worker may still take for the replies that it is at when it is told to end.
    worker_shutdown_timeout: float = 10.0
    #: What a scraper of /metrics must present; None leaves it open.
    metrics_token: str | None = field(repr=False, default=None)
    #: A worker that has run no task for so long counts as silent; canaries go to it four times as often.
    worker_health_timeout: float = 15.0
    #: auto: text on a terminal, else JSON.
    log_format: str = "auto"
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings that `environ` spells out, defaults for the rest.

        Raises `ConfigurationError`, naming the variable, for a value that makes no sense.
        """
        env = _Reader(environ)
        redis_url = _redis_url(env)
        default = cls()
        return cls(
            redis_url=redis_url,
            broker_url=_broker_url(env, redis_url),
            # A failover loses what no replica has: with Sentinel one is to be had.
            redis_wait_replicas=env.integer(
                "REDIS_WAIT_REPLICAS", int(urlsplit(redis_url).scheme in SENTINEL_SCHEMES), 0, 100
            ),
            model_servers=_model_servers(env),
            model_name=env.text("MODEL_NAME", default.model_name),
            model_token=env.optional("HUGGINGFACE_INFERENCE_TOKEN") or env.optional("HUGGINFACE_INFERENCE_TOKEN"),
            max_new_tokens=env.integer("MAX_NEW_TOKENS", default.max_new_tokens, 1, 1_000_000),
            history_messages=env.integer("HISTORY_MESSAGES", default.history_messages, 1, 10_000),
            max_prompt_tokens=env.integer("MAX_PROMPT_TOKENS", default.max_prompt_tokens, 1, 10_000_000),
            temperature=env.fraction("TEMPERATURE", 0, 5),
            top_p=env.fraction("TOP_P", 0, 1),
            seed=env.integer("SEED", 0, 0, 2**31 - 1) if env.optional("SEED") else None,
            use_cache=env.boolean("USE_CACHE"),
            system_prompt=env.text("SYSTEM_PROMPT", default.system_prompt),
            model_connect_timeout=env.seconds("MODEL_CONNECT_TIMEOUT", default.model_connect_timeout),
            model_read_timeout=env.seconds("MODEL_READ_TIMEOUT", default.model_read_timeout),
            model_timeout=env.seconds("MODEL_TIMEOUT", default.model_timeout),
            model_attempts=env.integer("MODEL_ATTEMPTS", default.model_attempts, 1, 100),
            model_rest=env.seconds("MODEL_REST", default.model_rest),
            model_loading_timeout=env.seconds("MODEL_LOADING_TIMEOUT", default.model_loading_timeout),
            session_ttl=env.integer("SESSION_TTL", default.session_ttl, 1, 10 * 365 * 86400),
            max_message_length=env.integer("MAX_MESSAGE_LENGTH", default.max_message_length, 1, 65536),
            max_pending_messages=env.integer("MAX_PENDING_MESSAGES", default.max_pending_messages, 1, 10_000),
            max_history_messages=env.integer("MAX_HISTORY_MESSAGES", default.max_history_messages, 0, 1_000_000),
            max_sockets=env.integer("MAX_SOCKETS", default.max_sockets, 1, 1_000_000),
            max_sockets_per_session=env.integer(
                "MAX_SOCKETS_PER_SESSION", default.max_sockets_per_session, 1, 1_000_000
            ),
            max_queue_age=env.seconds("MAX_QUEUE_AGE", default.max_queue_age, or_zero=True),
            ratelimit_enabled=env.flag("RATELIMIT_ENABLED", default.ratelimit_enabled),
            ratelimit_sessions=env.rates("RATELIMIT_SESSIONS", default.ratelimit_sessions),
            ratelimit_session_messages=env.rates("RATELIMIT_SESSION_MESSAGES", default.ratelimit_session_messages),
            ratelimit_address_messages=env.rates("RATELIMIT_ADDRESS_MESSAGES", default.ratelimit_address_messages),
            trusted_proxies=env.proxies("TRUSTED_PROXIES"),
            allowed_origins=env.origins("ALLOWED_ORIGINS"),
            ping_interval=env.seconds("PING_INTERVAL", default.ping_interval),
            host=env.text("HOST", default.host),
            port=env.integer("PORT", default.port, 1, 65535),
            worker_concurrency=env.integer("WORKER_CONCURRENCY", default.worker_concurrency, 1, 10_000),
            worker_shutdown_timeout=env.seconds("WORKER_SHUTDOWN_TIMEOUT", default.worker_shutdown_timeout),
            worker_health_timeout=env.seconds("WORKER_HEALTH_TIMEOUT", default.worker_health_timeout),
            metrics_token=env.optional("METRICS_TOKEN"),
            log_format=env.choice("LOG_FORMAT", default.log_format, ("auto", "text", "json")),
            log_level=env.choice("LOG_LEVEL", default.log_level, ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
        )


def load_settings() -> Settings:
    """The settings of this process: the environment, then what `.env` in the working folder adds to it.

    `.env` goes into the environment, where Flower and gunicorn look for their own settings. A value that makes no
    sense ends the process, with a line that names it.
    """
    load_dotenv(os.path.join(os.getcwd(), ".env"))
    try:
        return Settings.from_env(os.environ)
    except ConfigurationError as error:
        raise SystemExit(f"Settings: {error}") from None


class _Reader:
    """Reads typed values out of an environment; an empty value is an unset one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def optional(self, name: str) -> str | None:
        return self._environ.get(name, "").strip() or None

    def text(self, name: str, default: str) -> str:
        return self.optional(name) or default

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        raw = self.optional(name)
        if raw is None:
            return default
        try:
            value = int(raw)
        except ValueError:
            raise ConfigurationError(f"{name} must be a whole number, not {raw!r}") from None
        if not low <= value <= high:
            raise ConfigurationError(f"{name} must be from {low} to {high}, not {value}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.boolean(name)
        return default if value is None else value

    def rates(self, name: str, default: Rates) -> Rates:
        raw = self.optional(name)
        if raw is None:
            return default
        try:
            rates = tuple(limits.parse_many(raw))
        except ValueError:
            rates = ()
        if not rates or any(rate.amount < 1 or rate.get_expiry() < 1 for rate in rates):
            raise ConfigurationError(
                f"{name} must be a rate such as 30/minute, or several such as 5/second;100/hour, not {raw!r}"
            )
        return rates

    def proxies(self, name: str) -> Networks | int:
        raw = self.optional(name) or ""
        if raw.isdecimal() and int(raw) < 100:
            return int(raw)
        try:
            return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in raw.split(",") if part.strip())
        except ValueError as error:
            raise ConfigurationError(
                f"{name} must list addresses or networks of proxies such as 10.0.0.0/8, separated by commas, "
                f"or say how many proxies stand in front: {error}"
            ) from None

    def seconds(self, name: str, default: float, *, or_zero: bool = False) -> float:
        raw = self.optional(name)
        if raw is None:
            return default
        try:
            value = float(raw)
        except ValueError:
            raise ConfigurationError(f"{name} must be a number of seconds, not {raw!r}") from None
        if not 0 < value < 1e7 and not (or_zero and value == 0):
            raise ConfigurationError(f"{name} must be more than 0 seconds and below 10 million, not {raw}")
        return value

    def fraction(self, name: str, low: float, high: float) -> float | None:
        raw = self.optional(name)
        if raw is None:
            return None
        try:
            value = float(raw)
        except ValueError:
            raise ConfigurationError(f"{name} must be a number, not {raw!r}") from None
        if not low <= value <= high:
            raise ConfigurationError(f"{name} must be from {low:g} to {high:g}, not {raw}")
        return value

    def boolean(self, name: str) -> bool | None:
        raw = self.optional(name)
        if raw is None:
            return None
        if raw.lower() in ("true", "1", "yes", "on"):
            return True
        if raw.lower() in ("false", "0", "no", "off"):
            return False
        raise ConfigurationError(f"{name} must be true or false, not {raw!r}")

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default)
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, not {value!r}")

    def url(self, name: str, default: str, schemes: tuple[str, ...]) -> str:
        return self.checked_url(name, self.text(name, default), schemes)

    @staticmethod
    def checked_url(name: str, value: str, schemes: tuple[str, ...]) -> str:
        # The value may hold a password: it is not repeated in the error.
        if value.partition("://")[0] in set(SENTINEL_SCHEMES).intersection(schemes):
            try:
                SentinelAddress.parse(value)
            except ValueError as error:
                raise ConfigurationError(f"{name}: {error}") from None
            return value
        try:
            parts = [urlsplit(part) for part in value.split(";")]
            for part in parts:
                _ = part.port
        except ValueError as error:
            raise ConfigurationError(f"{name} is not a URL: {error}") from None
        if any(part.scheme not in schemes for part in parts):
            wanted = ", ".join(f"{scheme}://" for scheme in schemes)
            raise ConfigurationError(f"{name} must begin with one of {wanted}")
        if any(not (part.hostname or part.path) for part in parts):
            raise ConfigurationError(f"{name} names no host")
        return value

    def origins(self, name: str) -> tuple[str, ...]:
        values = tuple(v.strip().rstrip("/") for v in self.text(name, "").split(",") if v.strip())
        for value in values:
            parts = urlsplit(value)
            if value != "*" and not (parts.scheme in ("http", "https") and parts.netloc and not parts.path):
                raise ConfigurationError(
                    f"{name} must list origins such as https://chat.example.org, separated by commas, "
                    f"or be *; {value!r} is neither"
                )
        return values


def _redis_url(env: _Reader) -> str:
    """One URL out of REDIS_URL or REDIS_HOST, REDIS_PORT, REDIS_USER and REDIS_PASSWORD.

    REDIS_URL may also be a bare `host:port`, as the tutorial had it, completed by user and password.
    """
    raw = env.optional("REDIS_URL")
    user, password = env.optional("REDIS_USER") or "", env.optional("REDIS_PASSWORD")
    login = f"{quote(user, safe='')}:{quote(password or '', safe='')}@" if user or password else ""
    if raw is None:
        host = env.text("REDIS_HOST", "127.0.0.1")
        if "://" in host or "/" in host:
            raise ConfigurationError("REDIS_HOST must be a host name; a whole address goes into REDIS_URL")
        bracketed = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
        port = env.integer("REDIS_PORT", 6379, 1, 65535)
        address = bracketed if bracketed.rpartition(":")[2].isdigit() and ":" in host else f"{bracketed}:{port}"
        return f"redis://{login}{address}/0"
    if "://" not in raw:
        raw = f"redis://{raw}"
    url = env_url = raw
    try:
        parts = urlsplit(env_url)
        if login and "@" not in parts.netloc and parts.scheme in ("redis", "rediss", *SENTINEL_SCHEMES):
            url = parts._replace(netloc=login + parts.netloc).geturl()
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL is not a URL: {error}") from None
    schemes = ("redis", "rediss", "unix", *SENTINEL_SCHEMES)
    return _with_sentinel_login(env, _Reader({"REDIS_URL": url}).url("REDIS_URL", "", schemes))


def _broker_url(env: _Reader, redis_url: str) -> str:
    url = env.url("CELERY_BROKER_URL", redis_url, ("redis", "rediss", "unix", *SENTINEL_SCHEMES))
    return _with_sentinel_login(env, url)


def _with_sentinel_login(env: _Reader, url: str) -> str:
    """A Sentinel's URL completed by SENTINEL_USER and SENTINEL_PASSWORD, unless it has its own; others unchanged."""
    parts = urlsplit(url)
    login = {"username": env.optional("SENTINEL_USER"), "password": env.optional("SENTINEL_PASSWORD")}
    query = urlencode({f"sentinel_{name}": value for name, value in login.items() if value})
    if parts.scheme not in SENTINEL_SCHEMES or not query or "sentinel_password" in parts.query:
        return url
    return parts._replace(query=f"{parts.query}&{query}" if parts.query else query).geturl()


def _model_servers(env: _Reader) -> tuple[ModelAddress, ...]:
    """The addresses that MODEL_URL lists, each with its protocol: told by MODEL_API, else by the address."""
    listed = env.text("MODEL_URL", Settings.model_servers[0].url).split(",")
    urls = [env.checked_url("MODEL_URL", url.strip(), ("http", "https")) for url in listed if url.strip()]
    if not urls:
        raise ConfigurationError("MODEL_URL names no address")
    if len(set(urls)) < len(urls):
        raise ConfigurationError("MODEL_URL names the same address twice")
    return tuple(_model_address(env, url) for url in urls)


def _model_address(env: _Reader, url: str) -> ModelAddress:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.endswith("/chat/completions"):
        guess = OPENAI_CHAT
    elif path.endswith("/completions"):
        guess = OPENAI_COMPLETIONS
    elif path.endswith("/v1"):
        guess = OPENAI_CHAT
    else:
        guess = HUGGINGFACE
    api = env.choice("MODEL_API", guess, MODEL_APIS)
    if api in _OPENAI_PATHS:
        # The base of the API will do, and a slash at the end does no harm.
        path = path or "/v1"
        path += _OPENAI_PATHS[api] if path.endswith("/v1") else ""
        url = parts._replace(path=path).geturl()
    return ModelAddress(url, api)
