"""What `make run` runs: which ports, which environment, which processes, and in which order."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from devtools.local import llama_server as model_server
from devtools.local import ports, probes, redis_server
from devtools.local.supervisor import Process

STOP_ORDER = ("web", "beat", "flower", "worker", "model", "redis")
REPLY_TOKENS = "256"  # bounds a reply of the local model, which seldom finds an end by itself
SYSTEM_PROMPT = "You are a helpful assistant."

Environment = Mapping[str, str]


class CannotRun(Exception):
    """Something must be set differently first. ``problems`` holds one line, or paragraph, for each."""

    def __init__(self, problems: list[str]) -> None:
        """Join the problems to the text of the exception."""
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Plan:
    """Ready to be run: processes in the order of their start, the order of their stop, what to say."""

    processes: list[Process]
    stop_order: tuple[str, ...]
    welcome: str
    remarks: list[str]  # what is used instead of a process of our own, passwords hidden


@dataclass(frozen=True)
class Ports:
    """Port numbers on 127.0.0.1; None for what is not started here."""

    web: int
    flower: int
    redis: int | None
    model: int | None


def make_plan(env: Environment, data_dir: Path) -> Plan:
    """Plan a run in the current folder, keeping data in ``data_dir``, which is made if missing.

    ``env`` is the environment with `.env` already merged in. An empty variable counts as not set. Raises
    CannotRun, with all problems at once. Starts nothing.
    """
    problems: list[str] = []
    chosen = read_ports(env, problems)
    redis_data = data_dir.absolute() / "redis"
    redis_command: list[str] = []
    if chosen.redis is not None:
        try:
            redis_command = redis_server.redis_command(chosen.redis, redis_data)
        except redis_server.RedisNotFound as error:
            problems.append(str(error))
    if chosen.model is not None:
        try:
            model_server.find_model()
        except model_server.ModelNotFound as error:
            problems.append(str(error))
    if problems:
        raise CannotRun(problems)
    redis_data.mkdir(parents=True, exist_ok=True)

    child_env = child_environment(env, chosen)
    scripts = Path(sys.executable).parent
    celery = [str(scripts / "celery"), "-A", "celery_worker"]
    flower_host = child_env["FLOWER_ADDRESS"] if child_env["FLOWER_ADDRESS"] != "0.0.0.0" else ports.HOST  # noqa: S104 - compared, not bound
    processes: list[Process] = []
    if chosen.redis is not None:
        ready = partial(probes.redis_answers, chosen.redis)
        processes.append(Process("redis", redis_command, child_env, ready))
    if chosen.model is not None:
        command = [sys.executable, "-m", "devtools.local.llama_server", "--port", str(chosen.model)]
        ready = partial(probes.http_answers, chosen.model, "/health")
        processes.append(Process("model", command, child_env, ready, grace=5))
    first = tuple(process.name for process in processes)
    web_ready = partial(probes.http_answers, chosen.web, "/readyz")
    workers_ready = partial(probes.workers_answer, chosen.web)
    flower_ready = partial(probes.http_answers, chosen.flower, "/healthcheck", flower_host)
    processes += [
        Process("web", [str(scripts / "gunicorn"), "wsgi:app"], child_env, web_ready, first),
        Process("worker", [*celery, "worker", "--loglevel=INFO"], child_env, workers_ready, first, grace=15),
        Process("beat", [*celery, "beat"], child_env, None, first, grace=5),
        Process("flower", [*celery, "flower"], child_env, flower_ready, first, grace=5),
    ]
    names = {process.name for process in processes}
    return Plan(
        processes,
        stop_order=tuple(name for name in STOP_ORDER if name in names),
        welcome=(
            f"\n  Chat:    http://127.0.0.1:{chosen.web}\n"
            f"  Flower:  http://{flower_host}:{chosen.flower}\n"
            "  Ctrl-C ends everything\n"
        ),
        remarks=remarks(env),
    )


def read_ports(env: Environment, problems: list[str]) -> Ports:
    """Choose the ports, and add a line to ``problems`` for each that makes no sense or cannot be used."""
    defaults = {"PORT": 5000, "FLOWER_PORT": 5555}
    if not _given(env, "REDIS_URL", "REDIS_HOST"):
        defaults["REDIS_PORT"] = 6379
    if not _given(env, "MODEL_URL"):
        defaults["LOCAL_MODEL_PORT"] = 5001
    chosen: dict[str, int] = {}
    for name, default in defaults.items():
        text = env.get(name, "").strip() or str(default)
        # int() alone would take "5_000" too, and digits of other scripts
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


def child_environment(env: Environment, chosen: Ports) -> dict[str, str]:
    """Return the environment of all children: ``env``, with what leads them to each other."""
    child_env = {
        **env,
        "PYTHONUNBUFFERED": "1",
        "PORT": str(chosen.web),
        "FLOWER_PORT": str(chosen.flower),
        # Flower's own default is every address of the machine, without a password.
        "FLOWER_ADDRESS": env.get("FLOWER_ADDRESS") or ports.HOST,
        # Somebody reads along, though through a pipe.
        "LOG_FORMAT": env.get("LOG_FORMAT") or "text",
        # Whoever presses Ctrl-C waits for it; what is not done by then is handed back.
        "WORKER_SHUTDOWN_TIMEOUT": env.get("WORKER_SHUTDOWN_TIMEOUT") or "2",
    }
    if chosen.redis is not None:
        child_env["REDIS_URL"] = f"redis://127.0.0.1:{chosen.redis}/0"
    if chosen.model is not None:
        child_env["MODEL_URL"] = f"http://127.0.0.1:{chosen.model}/v1/chat/completions"
        child_env["MODEL_API"] = "openai-chat"
        child_env["MODEL_NAME"] = model_server.MODEL_NAME
        child_env["MAX_NEW_TOKENS"] = env.get("MAX_NEW_TOKENS") or REPLY_TOKENS
        child_env["SYSTEM_PROMPT"] = env.get("SYSTEM_PROMPT") or SYSTEM_PROMPT
        # A proxy for the outside world cannot reach this machine's own addresses.
        direct = [*filter(None, [env.get("no_proxy") or env.get("NO_PROXY")]), "127.0.0.1", "localhost"]
        child_env["no_proxy"] = child_env["NO_PROXY"] = ",".join(direct)
    return child_env


def remarks(env: Environment) -> list[str]:
    """Say which Redis and model are used instead of the local ones, without their passwords."""
    said = []
    if given := _given(env, "REDIS_URL", "REDIS_HOST"):
        said.append(f"{given} is set: using the Redis at {hide_secrets(env[given])}")
    if given := _given(env, "MODEL_URL"):
        said.append(f"{given} is set: using the model at {hide_secrets(env[given])}")
    return said


def hide_secrets(url: str) -> str:
    """Return ``url`` with its user, password and query replaced by ``***``."""
    return re.sub(r"\?.*", "?***", re.sub(r"://.*@", "://***@", url))


def _given(env: Environment, *names: str) -> str | None:
    return next((name for name in names if env.get(name, "").strip()), None)
