"""Every setting, declared once: attribute, variable, default, check and description.

`.env.example` and the table in docs/settings.md are generated from these declarations (`make settings`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import limits

from chatbot.config import fields
from chatbot.config.addresses import MODEL_APIS, OPENAI_CHAT, ModelAddress
from chatbot.config.declaration import setting
from chatbot.config.fields import Networks, Rates


def _rates(variable: str, default: str, description: str) -> Any:
    return setting(variable, tuple(limits.parse_many(default)), fields.rates(), description, shown=default)


@dataclass(frozen=True)
class RedisSettings:
    """Redis, with RedisJSON (Redis 8 has it built in)"""

    url: str = setting(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        fields.redis_url("percent-encode the password, or leave it out and set REDIS_PASSWORD"),
        "Where Redis is: redis://, rediss:// for TLS, unix:///run/redis.sock, or with Sentinel "
        "sentinel://[user:password@]host1[:26379],host2,host3/service[/db], sentinels:// for TLS.",
        secret=True,
    )
    host: str | None = setting(
        "REDIS_HOST", None, fields.redis_host(), "REDIS_URL in parts: the host.", shown="127.0.0.1"
    )
    port: int | None = setting("REDIS_PORT", None, fields.integer(1, 65535), "The port.", shown="6379")
    user: str = setting("REDIS_USER", "", fields.text(), "User and password also complete a REDIS_URL without them.")
    password: str = setting("REDIS_PASSWORD", "", fields.text(), "The password.", secret=True)
    broker_url: str = setting(
        "CELERY_BROKER_URL",
        "redis://127.0.0.1:6379/0",
        fields.redis_url("percent-encode the password"),
        "The Redis of the queue, if it is another one than that of the sessions.",
        secret=True,
        shown="",
    )
    sentinel_user: str = setting("SENTINEL_USER", "", fields.text(), "The Sentinels' own user.")
    sentinel_password: str = setting(
        "SENTINEL_PASSWORD", "", fields.text(), "The Sentinels' own password.", secret=True
    )
    wait_replicas: int = setting(
        "REDIS_WAIT_REPLICAS",
        0,
        fields.integer(0, 100),
        "Replicas that must have a message before it is acknowledged; 1 by default with Sentinel, else 0.",
        shown="",
    )


@dataclass(frozen=True)
class ModelSettings:
    """The model"""

    servers: tuple[ModelAddress, ...] = setting(
        "MODEL_URL",
        (ModelAddress("http://127.0.0.1:5001/v1/chat/completions", OPENAI_CHAT),),
        fields.url_list("http", "https"),
        "The address to post to; several, separated by commas, share the load, and each gets the token. The path gives "
        "the protocol unless MODEL_API does: .../v1 and .../chat/completions mean openai-chat, .../completions means "
        "openai-completions, any other huggingface.",
        shown="http://127.0.0.1:5001/v1/chat/completions",
    )
    api: str | None = setting(
        "MODEL_API", None, fields.choice(*MODEL_APIS), f"The protocol: {', '.join(MODEL_APIS)}.", shown=""
    )
    name: str = setting("MODEL_NAME", "EleutherAI/gpt-j-6B", fields.text(), "The model to ask for.")
    note: str = setting("MODEL_NOTE", "", fields.text(), "Shown on the page after the model's name: its size, say.")
    token: str | None = setting(
        "HUGGINGFACE_INFERENCE_TOKEN",
        None,
        fields.credential(),
        "Sent as a bearer token; the spelling HUGGINFACE_INFERENCE_TOKEN works too.",
        secret=True,
    )
    client_certificate: tuple[str, ...] = setting(
        "MODEL_CLIENT_CERT",
        (),
        fields.certificate(),
        "A client certificate for https: a PEM file with its key, or two files, the certificate and the key without a "
        "password, separated by a comma.",
        shown="",
    )
    max_new_tokens: int = setting("MAX_NEW_TOKENS", 256, fields.integer(1, 1_000_000), "Tokens of a reply at most.")
    history_messages: int = setting(
        "HISTORY_MESSAGES", 4, fields.integer(1, 10_000), "Messages of the history in a prompt, the new one included."
    )
    max_prompt_tokens: int = setting(
        "MAX_PROMPT_TOKENS",
        1792,
        fields.integer(1, 10_000_000),
        "Older messages are left out of a prompt whose estimated length is above this; the newest message never is.",
    )
    temperature: float | None = setting(
        "TEMPERATURE", None, fields.fraction(0, 5), "Left to the model server unless set, as are the next two."
    )
    top_p: float | None = setting("TOP_P", None, fields.fraction(0, 1), "Nucleus sampling.")
    seed: int | None = setting("SEED", None, fields.integer(0, 2**31 - 1), "The seed of sampling.")
    use_cache: bool | None = setting(
        "USE_CACHE", None, fields.boolean(), "true or false; a parameter of the text-generation protocol alone."
    )
    system_prompt: str = setting("SYSTEM_PROMPT", "", fields.text(), "Instructions for chat models.")
    keep_reasoning: bool = setting("MODEL_KEEP_REASONING", False, fields.boolean(), "Prompts hold earlier thinking.")
    request_id_header: str = setting(
        "MODEL_REQUEST_ID_HEADER",
        "X-Request-Id",
        fields.header(),
        "The header with `<session id>:<message id>` for the model server's log; off sends none.",
    )
    connect_timeout: float = setting("MODEL_CONNECT_TIMEOUT", 5.0, fields.seconds(), "Seconds to connect.")
    read_timeout: float = setting(
        "MODEL_READ_TIMEOUT", 60.0, fields.seconds(), "Seconds of silence between two chunks of a reply."
    )
    timeout: float = setting("MODEL_TIMEOUT", 120.0, fields.seconds(), "Seconds for a reply, from its first token on.")
    attempts: int = setting(
        "MODEL_ATTEMPTS", 5, fields.integer(1, 100), "Calls for one message before its failure is recorded."
    )
    rest: float = setting(
        "MODEL_REST", 30.0, fields.seconds(), "Seconds for which a failed server is avoided where there are several."
    )
    loading_timeout: float = setting(
        "MODEL_LOADING_TIMEOUT",
        300.0,
        fields.seconds(),
        "Seconds for which a server may load or be unavailable: report so, or be silent before the first token.",
    )


@dataclass(frozen=True)
class LimitsSettings:
    """Sessions and limits"""

    session_ttl: int = setting(
        "SESSION_TTL", 3600, fields.integer(1, 10 * 365 * 86400), "Seconds that a session lives after its last use."
    )
    max_session_age: int = setting(
        "MAX_SESSION_AGE",
        0,
        fields.integer(0, 10 * 365 * 86400),
        "Seconds that a session lives after its start, at most, however much it is used; 0 for no limit.",
    )
    max_message_length: int = setting(
        "MAX_MESSAGE_LENGTH", 8000, fields.integer(1, 65536), "Characters of one message."
    )
    max_pending_messages: int = setting(
        "MAX_PENDING_MESSAGES", 8, fields.integer(1, 10_000), "Unanswered messages of one session."
    )
    max_history_messages: int = setting(
        "MAX_HISTORY_MESSAGES",
        20_000,
        fields.integer(0, 1_000_000),
        "Messages that a history keeps; the oldest are dropped, unanswered ones stay. 0 keeps all.",
    )
    max_history_bytes: int = setting(
        "MAX_HISTORY_BYTES",
        16_000_000,
        fields.integer(0, 2**31),
        "Bytes of Redis' memory that the messages of a history take; the oldest are dropped, unanswered ones and the "
        "newest two stay. 0 for no limit.",
    )
    max_sockets: int = setting("MAX_SOCKETS", 12_000, fields.integer(1, 1_000_000), "Websockets of one web process.")
    max_sockets_per_session: int = setting(
        "MAX_SOCKETS_PER_SESSION", 16, fields.integer(1, 1_000_000), "Websockets of one session in all web processes."
    )
    max_sockets_per_address: int = setting(
        "MAX_SOCKETS_PER_ADDRESS",
        1000,
        fields.integer(0, 1_000_000),
        "Websockets of one address, which an office or a school may share, in one web process. 0 for no limit.",
    )
    max_queue_age: float = setting(
        "MAX_QUEUE_AGE",
        60.0,
        fields.seconds(or_zero=True),
        "Seconds: while a message has waited longer for a worker, new ones are refused. 0 for no bound.",
    )
    rates_enabled: bool = setting("RATELIMIT_ENABLED", True, fields.boolean(), "Whether the rates below apply.")
    new_sessions: Rates = _rates(
        "RATELIMIT_SESSIONS",
        "600/minute",
        "New sessions of one address, which an office or a school may share. 5/second;100/hour sets two rates.",
    )
    session_messages: Rates = _rates("RATELIMIT_SESSION_MESSAGES", "240/minute", "Messages of one session.")
    address_messages: Rates = _rates("RATELIMIT_ADDRESS_MESSAGES", "3000/minute", "Messages of one address.")
    address_bytes: Rates = _rates("RATELIMIT_ADDRESS_BYTES", "100000000/hour", "Bytes of one address's messages.")
    session_reads: Rates = _rates("RATELIMIT_SESSION_READS", "120/minute", "Pages of one session's history.")
    address_reads: Rates = _rates("RATELIMIT_ADDRESS_READS", "1200/minute", "Pages of histories read from one address.")
    failed_handshakes: Rates = _rates(
        "RATELIMIT_FAILED_HANDSHAKES",
        "120/minute",
        "Websocket handshakes of one address without a valid token, in one web process; then all of its handshakes are "
        "refused.",
    )


@dataclass(frozen=True)
class WebSettings:
    """Web processes"""

    host: str = setting("HOST", "127.0.0.1", fields.host(), "The address to listen on.")
    port: int = setting("PORT", 5000, fields.integer(1, 65535), "The port to listen on.")
    processes: int = setting("WEB_CONCURRENCY", 1, fields.integer(1, 1000), "Web processes under one gunicorn.")
    trusted_proxies: Networks | int = setting(
        "TRUSTED_PROXIES",
        (),
        fields.proxies(),
        "Proxies whose X-Forwarded-For, -Proto, -Host and -Prefix are believed: addresses or networks, separated by "
        "commas, or how many stand in front.",
        shown="",
    )
    prefix: str = setting(
        "SCRIPT_NAME",
        "",
        fields.path_prefix(),
        "The path below which the chat is reached, such as /chat-app, where no trusted proxy sends X-Forwarded-Prefix.",
    )
    allowed_origins: tuple[str, ...] = setting(
        "ALLOWED_ORIGINS",
        (),
        fields.origins(),
        "Origins besides the page's own whose pages may connect, separated by commas; * for all.",
        shown="",
    )
    allowed_hosts: tuple[str, ...] = setting(
        "ALLOWED_HOSTS",
        (),
        fields.hosts(),
        "Host names at which web and Flower are reached, separated by commas: chat.example.org, .example.org with all "
        "names below it, addresses, or * for any. Those of loopback always count; unset, nothing else does where HOST "
        "(of Flower, FLOWER_ADDRESS) is loopback, and any host elsewhere.",
        shown="",
    )
    ping_interval: float = setting(
        "PING_INTERVAL", 25.0, fields.seconds(), "Seconds between pings; a socket that leaves one unanswered is closed."
    )
    api_keys: str = setting(
        "API_KEYS",
        "auto",
        fields.choice("auto", "required", "off"),
        "Whether /v1 asks for an API key: required, off, or auto: off where only this machine reaches the server, that is "
        "where HOST is loopback and neither TRUSTED_PROXIES nor ALLOWED_HOSTS names others.",
    )
    metrics_token: str | None = setting(
        "METRICS_TOKEN",
        None,
        fields.credential(),
        "The bearer token that /metrics asks for; open unless set.",
        secret=True,
    )


@dataclass(frozen=True)
class WorkerSettings:
    """Workers"""

    concurrency: int = setting(
        "WORKER_CONCURRENCY", 500, fields.integer(1, 10_000), "Replies that one worker generates at the same time."
    )
    shutdown_timeout: float = setting(
        "WORKER_SHUTDOWN_TIMEOUT",
        10.0,
        fields.seconds(),
        "Seconds that a stopping worker has to finish replies; then it hands them to other workers.",
    )
    health_timeout: float = setting(
        "WORKER_HEALTH_TIMEOUT", 15.0, fields.seconds(), "Seconds without a task after which a worker counts as silent."
    )


@dataclass(frozen=True)
class FlowerSettings:
    """Flower"""

    port: int = setting("FLOWER_PORT", 5555, fields.integer(1, 65535), "The port of Flower.")
    address: str = setting("FLOWER_ADDRESS", "127.0.0.1", fields.host(), "The address that Flower listens on.")
    basic_auth: str | None = setting(
        "FLOWER_BASIC_AUTH",
        None,
        fields.login(),
        "user:password. Without it Flower starts on loopback only, unless the next line allows more.",
        secret=True,
    )
    unauthenticated: bool = setting(
        "FLOWER_UNAUTHENTICATED", False, fields.boolean(), "Whether Flower may listen elsewhere without a password."
    )
    max_tasks: int = setting(
        "FLOWER_MAX_TASKS", 10_000, fields.integer(1, 10_000_000), "Tasks kept in memory; 100 000 take several 100 MB."
    )
    purge_offline_workers: int = setting(
        "FLOWER_PURGE_OFFLINE_WORKERS", 60, fields.integer(0, 10_000_000), "Seconds until a lost worker is not shown."
    )


@dataclass(frozen=True)
class LogSettings:
    """Logs"""

    format: str = setting(
        "LOG_FORMAT",
        "auto",
        fields.choice("auto", "text", "json"),
        "text, json, or auto: text on a terminal (and in `make run`), else json.",
    )
    level: str = setting(
        "LOG_LEVEL",
        "INFO",
        fields.choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        "The least severe level that is logged.",
    )
