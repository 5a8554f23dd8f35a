"""What `make run` starts: the ports, the environment and the services with their order."""

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields as fields_of
from functools import partial
from pathlib import Path

from chatbot.config import Settings, WebSettings, fields, misspelled
from chatbot.config.declaration import setting
from chatbot.config.reader import variables
from chatbot.config.settings import FlowerSettings
from chatbot.errors import ConfigurationError
from devtools.local import llama_server, ports, probes, redis_server
from devtools.local.service import Service
from devtools.paths import BIN

STOP_ORDER = ("web", "flower", "worker", "model", "redis")
REPLY_TOKENS = "256"  # bounds a reply of the local model, which rarely ends one by itself
SYSTEM_PROMPT = "You are a helpful assistant."
LEAST_FREE = 20_000_000  # bytes; on a full disk Redis takes no messages
MODEL_NOTE = "a small model, which is often wrong, and knows neither the time nor the weather"

Environment = Mapping[str, str]


@dataclass(frozen=True)
class LocalSettings:
    """`make run` alone"""

    model_port: int = setting(
        "LOCAL_MODEL_PORT",
        5001,
        fields.integer(1, 65535),
        "The port of the model server that `make run` starts when MODEL_URL is not set.",
    )
    data_dir: str = setting(
        "LOCAL_DATA_DIR", ".data", fields.text(), "The folder in which the Redis of `make run` stores its data."
    )


class CannotRun(Exception):
    """Settings or this machine must be changed first. ``problems`` holds one line, or paragraph, for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@contextmanager
def writing(data_dir: Path) -> Iterator[None]:
    """Raises CannotRun where something below ``data_dir`` cannot be written."""
    try:
        yield
    except OSError as error:
        problem = f"{data_dir} cannot be written ({error.strerror}): set LOCAL_DATA_DIR to another folder"
        raise CannotRun([problem]) from None


@dataclass(frozen=True)
class Plan:
    """Services in the order of their start, the order of their stop, and the texts to show."""

    services: list[Service]
    stop_order: tuple[str, ...]
    welcome: str
    remarks: list[str]  # misspelled settings; which Redis and model are used instead of local ones, passwords hidden
    log: Path  # the file for the services' lines


@dataclass(frozen=True)
class Ports:
    """Port numbers on 127.0.0.1; None for a service that is not started here."""

    web: int
    flower: int
    redis: int | None
    model: int | None


def make_plan(env: Environment, data_dir: Path) -> Plan:
    """Plan a run in the current folder with its data in ``data_dir``, which is made if missing.

    ``env`` is the environment with `.env` already merged in. An empty variable counts as not set. Raises
    CannotRun with all problems found. Starts nothing.
    """
    problems: list[str] = []
    chosen = read_ports(env, problems)
    problems += invalid_settings(env)
    redis_data = data_dir.absolute() / "redis"
    redis_command: list[str] = []
    if chosen.redis is not None:
        try:
            redis_command = redis_server.redis_command(chosen.redis, redis_data)
        except redis_server.RedisNotFound as error:
            problems.append(str(error))
    if chosen.model is not None:
        try:
            llama_server.find_model()
        except llama_server.ModelNotFound as error:
            problems.append(str(error))
    if problems:
        raise CannotRun(problems)
    log = data_dir / "logs" / "run.log"
    with writing(data_dir):
        redis_data.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(exist_ok=True)
    if (free := shutil.disk_usage(data_dir).free) < LEAST_FREE:
        space = f"{data_dir} has {free // 10**6} MB free, {LEAST_FREE // 10**6} are needed"
        raise CannotRun([f"{space}: make room, or set LOCAL_DATA_DIR to another folder"])

    child_env = child_environment(env, chosen)
    flower_host = child_env["FLOWER_ADDRESS"] if child_env["FLOWER_ADDRESS"] != "0.0.0.0" else ports.LOOPBACK  # noqa: S104 - compared, not bound
    services = local_services(chosen, child_env, redis_command)
    services += chat_services(chosen, child_env, flower_host, tuple(service.name for service in services))
    names = {service.name for service in services}
    return Plan(
        services,
        stop_order=tuple(name for name in STOP_ORDER if name in names),
        welcome=(
            f"\n  Chat:    http://127.0.0.1:{chosen.web}\n"
            f"  Flower:  http://{flower_host}:{chosen.flower}\n"
            "  Ctrl-C ends everything\n"
        ),
        remarks=remarks(env),
        log=log,
    )


def local_services(chosen: Ports, child_env: Environment, redis_command: list[str]) -> list[Service]:
    """Return the Redis and the model that are started here."""
    services = []
    if chosen.redis is not None:
        ready = partial(probes.redis_answers, chosen.redis)
        services.append(Service("redis", redis_command, child_env, ready))
    if chosen.model is not None:
        command = [sys.executable, "-m", "devtools.local.llama_server", "--port", str(chosen.model)]
        ready = partial(probes.http_answers, chosen.model, "/health")
        services.append(Service("model", command, child_env, ready, grace=5))
    return services


def chat_services(chosen: Ports, child_env: Environment, flower_host: str, first: tuple[str, ...]) -> list[Service]:
    """Return web, worker and Flower, which start when the services named in ``first`` are ready."""
    celery = [str(BIN / "celery"), "-A", "celery_worker"]
    web_ready = partial(probes.http_answers, chosen.web, "/readyz")
    workers_ready = partial(probes.workers_answer, chosen.web)
    flower_ready = partial(probes.http_answers, chosen.flower, "/healthcheck", flower_host)
    return [
        Service("web", [str(BIN / "gunicorn"), "wsgi:app"], child_env, web_ready, first),
        Service("worker", [*celery, "worker", "--loglevel=INFO"], child_env, workers_ready, first, grace=15),
        Service("flower", [*celery, "flower"], child_env, flower_ready, first, grace=5),
    ]


def default_ports(env: Environment) -> dict[str, int]:
    """Return the port settings of the services that ``env`` has started here, with their defaults."""
    defaults = {"PORT": WebSettings.port, "FLOWER_PORT": FlowerSettings.port}
    if uses_local_redis(env):
        defaults["REDIS_PORT"] = 6379
    if not _given(env, "MODEL_URL", "MODEL_CALLABLE"):
        defaults["LOCAL_MODEL_PORT"] = LocalSettings.model_port
    return defaults


def uses_local_redis(env: Environment) -> bool:
    """Return whether ``env`` names no Redis, so that one is started here."""
    return _given(env, "REDIS_URL", "REDIS_HOST") is None


def read_ports(env: Environment, problems: list[str]) -> Ports:
    """Choose the ports, and add a line to ``problems`` for each that is not a port number or cannot be used."""
    chosen: dict[str, int] = {}
    for name, default in default_ports(env).items():
        text = env.get(name, "").strip() or str(default)
        # int() alone also takes "5_000" and the digits of other scripts
        if re.fullmatch(r"[0-9]{1,5}", text) and ports.LOWEST <= int(text) <= ports.HIGHEST:
            chosen[name] = int(text)
        else:
            problems.append(f"{name} is {text!r}, not a port number ({ports.LOWEST} to {ports.HIGHEST})")
    taken = set(chosen.values())
    instead: list[str] = []
    for index, (name, port) in enumerate(chosen.items()):
        sharer = next((other for other in list(chosen)[:index] if chosen[other] == port), None)
        trouble = f"is already that of {sharer}" if sharer else ports.why_unusable(port)
        if trouble is None:
            continue
        line = f"Port {port} {trouble}: set {name} to another one"
        free = ports.usable_port(port + 1 if port >= 1024 else port + 8000, taken)
        if free is not None:
            taken.add(free)
            instead.append(f"{name}={free}")
            line += f", for example: {name}={free} make run"
        if name == "REDIS_PORT" and not sharer:
            line += f" (or, to use the Redis that is there: REDIS_URL=redis://127.0.0.1:{port}/0 make run)"
        problems.append(line)
    if len(instead) > 1:
        problems.append(f"All at once: {' '.join(instead)} make run")
    return Ports(
        web=chosen.get("PORT", 0),
        flower=chosen.get("FLOWER_PORT", 0),
        redis=chosen.get("REDIS_PORT"),
        model=chosen.get("LOCAL_MODEL_PORT"),
    )


def invalid_settings(env: Environment) -> list[str]:
    """Return a line for each invalid setting; the ports that ``read_ports`` checks are left out."""
    checked_elsewhere = default_ports(env)
    try:
        Settings.from_env({name: value for name, value in env.items() if name not in checked_elsewhere})
    except ConfigurationError as error:
        return list(error.problems)
    return []


def child_environment(env: Environment, chosen: Ports) -> dict[str, str]:
    """Return the environment of all children: ``env``, with the addresses at which they find each other."""
    # gunicorn and Flower read some of these themselves, and take no empty value.
    empty = {name for name, _, _ in variables() if not env.get(name, "").strip()}
    child_env = {
        **{name: value for name, value in env.items() if name not in empty},
        "PYTHONUNBUFFERED": "1",
        "PORT": str(chosen.web),
        "FLOWER_PORT": str(chosen.flower),
        # Flower's own default is every address of the machine, without a password.
        "FLOWER_ADDRESS": env.get("FLOWER_ADDRESS") or ports.LOOPBACK,
        # A user reads the log, though through a pipe.
        "LOG_FORMAT": env.get("LOG_FORMAT") or "text",
        # Ctrl-C should end soon; a reply that is not finished by then is handed to another worker.
        "WORKER_SHUTDOWN_TIMEOUT": env.get("WORKER_SHUTDOWN_TIMEOUT") or "2",
    }
    if chosen.redis is not None:
        child_env["REDIS_URL"] = f"redis://127.0.0.1:{chosen.redis}/0"
    if chosen.model is not None:
        child_env["MODEL_URL"] = f"http://127.0.0.1:{chosen.model}/v1/chat/completions"
        child_env["MODEL_API"] = "openai-chat"
        child_env["MODEL_NAME"] = llama_server.MODEL_NAME
        child_env["MAX_NEW_TOKENS"] = env.get("MAX_NEW_TOKENS") or REPLY_TOKENS
        child_env["TEMPERATURE"] = env.get("TEMPERATURE") or "0"  # so small a model answers nonsense above it
        child_env["MODEL_NOTE"] = env.get("MODEL_NOTE") or MODEL_NOTE
        child_env["SYSTEM_PROMPT"] = env.get("SYSTEM_PROMPT") or SYSTEM_PROMPT
        # A proxy for the outside world cannot reach this machine's own addresses.
        direct = [*filter(None, [env.get("no_proxy") or env.get("NO_PROXY")]), "127.0.0.1", "localhost"]
        child_env["no_proxy"] = child_env["NO_PROXY"] = ",".join(direct)
    return child_env


def remarks(env: Environment) -> list[str]:
    """Return misspelled settings, and which Redis and model are used instead of local ones, without their passwords."""
    own = [field.metadata["variable"] for field in fields_of(LocalSettings)]
    lines = [
        f"{name} is not a setting: did you mean {nearest}?"
        if nearest
        else f"{name} in .env is not a setting: docs/settings.md lists them"
        for name, nearest in misspelled(env, *own)
    ]
    if given := _given(env, "REDIS_URL", "REDIS_HOST"):
        lines.append(f"{given} is set: using the Redis at {hide_secrets(env[given])}")
    if given := _given(env, "MODEL_URL"):
        lines.append(f"{given} is set: using the model at {hide_secrets(env[given])}")
    elif given := _given(env, "MODEL_CALLABLE"):
        lines.append(f"{given} is set: replies come from {env[given]}")
    return lines


def hide_secrets(url: str) -> str:
    """Return ``url`` with its user, password and query replaced by ``***``."""
    return re.sub(r"\?.*", "?***", re.sub(r"://.*@", "://***@", url))


def _given(env: Environment, *names: str) -> str | None:
    return next((name for name in names if env.get(name, "").strip()), None)
