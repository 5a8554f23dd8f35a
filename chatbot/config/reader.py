"""Reads the settings from the environment and checks them."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from marshmallow import ValidationError

from chatbot.config.addresses import PYTHON, compose_redis_url, model_address, names_user_alone, with_sentinel_login
from chatbot.config.redis_urls import split_urls
from chatbot.config.settings import (
    FlowerSettings,
    LimitsSettings,
    LogSettings,
    ModelSettings,
    RedisSettings,
    WebSettings,
    WorkerSettings,
)
from chatbot.config.settings.model import BOT_HISTORY_MESSAGES, BOT_PROMPT_TOKENS
from chatbot.errors import ConfigurationError
from chatbot.store.cluster.topology import is_cluster
from chatbot.store.sentinel import is_sentinel

#: Read by OpenSSL and by `requests`, in every process.
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Celery would import the modules that they name, in web processes too.
_OF_CELERY = ("CELERY_CONFIG_MODULE", "CELERY_LOADER")
#: Docker's `--env-file` passes quotation marks on.
_QUOTED = re.compile(r"""(["'])(?!.*\1.*\1).*\1\Z""", re.DOTALL)


GROUPS = {
    "redis": RedisSettings,
    "model": ModelSettings,
    "limits": LimitsSettings,
    "web": WebSettings,
    "worker": WorkerSettings,
    "flower": FlowerSettings,
    "log": LogSettings,
}
#: The tutorial's spelling.
ALIASES = {"HUGGINGFACE_INFERENCE_TOKEN": "HUGGINFACE_INFERENCE_TOKEN"}


@dataclass(frozen=True)
class Settings:
    """The settings of one process, in groups. Times are in seconds unless the name says otherwise."""

    redis: RedisSettings = RedisSettings()
    model: ModelSettings = ModelSettings()
    limits: LimitsSettings = LimitsSettings()
    web: WebSettings = WebSettings()
    worker: WorkerSettings = WorkerSettings()
    flower: FlowerSettings = FlowerSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings in `environ`, defaults for the rest.

        Raises `ConfigurationError`, naming the variables, for values that make no sense.
        """
        problems: list[str] = []
        given = {name: _read_group(group, environ, problems) for name, group in GROUPS.items()}
        if not problems:
            for derive, group in ((_derive_redis, "redis"), (_derive_model, "model")):
                with _collecting(problems):
                    derive(given[group])
        if problems:
            raise ConfigurationError(*problems)
        return cls(**{name: GROUPS[name](**values) for name, values in given.items()})


def variables() -> Iterator[tuple[str, type[Any], dataclasses.Field[Any]]]:
    """Each setting's variable, group and field, in the order of declaration."""
    for group in GROUPS.values():
        for field in dataclasses.fields(group):
            yield field.metadata["variable"], group, field


def load_settings() -> Settings:
    """The settings of this process. A value that makes no sense ends the process with one line that names it."""
    try:
        return read_settings()
    except ConfigurationError as error:
        raise SystemExit(f"Settings: {error}") from None


def read_settings() -> Settings:
    """The settings in the environment, completed by `.env` in the working folder. Raises `ConfigurationError`."""
    load_env_file()
    problems: list[str] = []
    for check in (check_authorities, _check_celery):
        with _collecting(problems):
            check(os.environ)
    with _collecting(problems):
        settings = Settings.from_env(os.environ)
    if problems:
        raise ConfigurationError(*problems)
    return settings


@contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    """Adds the problems of a `ConfigurationError` to a list, so that the others are found too."""
    try:
        yield
    except ConfigurationError as error:
        problems += error.problems


def load_env_file() -> None:
    """Complete the environment, where Flower and gunicorn look for their own settings, by `.env` in the working folder.

    Raises `ConfigurationError` for a `.env` that cannot be used.
    """
    for name, value in read_env_file().items():
        os.environ.setdefault(name, value)


def read_env_file() -> dict[str, str]:
    """The variables in `.env` in the working folder, none without it. Raises `ConfigurationError`."""
    try:
        path = os.path.join(os.getcwd(), ".env")
    except FileNotFoundError:
        raise ConfigurationError("the working folder was deleted: start from a folder that exists") from None
    if os.path.isdir(path):
        raise ConfigurationError(".env is a folder: remove it, or put a file in its place")
    if not os.path.exists(path):
        if os.path.islink(path):
            raise ConfigurationError(".env is a link to a file that is not there: correct it, or remove it")
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except PermissionError:
        raise ConfigurationError(".env may not be read by this user: change its owner or its mode") from None
    except UnicodeDecodeError:
        raise ConfigurationError(".env is not UTF-8: save it as UTF-8") from None
    if "\0" in text:
        raise ConfigurationError(".env holds a zero byte: save it as UTF-8")
    wrong = []
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            before, _, _ = binding.original.string.partition(binding.original.string.strip())
            wrong.append(str(binding.original.line + before.count("\n")))
    if wrong:
        # Not repeated, as they may hold a password.
        lines = f"lines {', '.join(wrong)}: correct them" if len(wrong) > 1 else f"line {wrong[0]}: correct that line"
        raise ConfigurationError(f".env has no NAME=value in {lines}")
    found = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in found.items() if value is not None}


def _check_celery(environ: Mapping[str, str]) -> None:
    for variable in _OF_CELERY:
        if environ.get(variable):
            raise ConfigurationError(f"{variable} has no use here, as all settings are variables: remove it")


def check_authorities(environ: Mapping[str, str]) -> None:
    """Checks the variables that name certificates of authorities. Raises `ConfigurationError`.

    OpenSSL would pass over a missing file, and then trust no server.
    """
    for variable in _AUTHORITIES:
        path = environ.get(variable, "")
        if path and not os.path.exists(path):
            raise ConfigurationError(f"{variable} names a file that is not there")
        if path and os.path.isfile(path):
            try:
                ssl.create_default_context(cafile=path)
            except OSError:
                raise ConfigurationError(
                    f"{variable} names a file that cannot be read, or holds no certificate in PEM form"
                ) from None


def _read_group(group: type[Any], environ: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    """The valid values of a group; `problems` gets a sentence for each of the others."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(group):
        variable = field.metadata["variable"]
        raw = environ.get(variable, "").strip() or environ.get(ALIASES.get(variable, variable), "").strip()
        if raw:
            if _QUOTED.match(raw):
                problems.append(f"{variable} is in quotation marks: leave them out")
                continue
            try:
                values[field.name] = field.metadata["check"].deserialize(raw)
            except ValidationError as error:
                problems.append(f"{variable} {error.messages[0]}")
    return values


def _derive_redis(values: dict[str, Any]) -> None:
    """Completes the URLs by the parts given separately, and derives the defaults that depend on them."""
    urls = split_urls(compose_redis_url(values))
    broker_url = values.get("broker_url", urls[0])
    for variable, checked in (*(("REDIS_URL", url) for url in urls), ("CELERY_BROKER_URL", broker_url)):
        if names_user_alone(checked):
            raise ConfigurationError(
                f"{variable} names a user without a password: write :password@ for a password alone, user:password@ "
                "for both, or user:@ for a user who has none"
            )
    values["url"] = ",".join(with_sentinel_login(url, values) for url in urls)
    values["broker_url"] = with_sentinel_login(broker_url, values)
    # A replica that is promoted may lack the newest writes: one replica must have what is acknowledged.
    values.setdefault("wait_replicas", int(any(is_sentinel(url) or is_cluster(url) for url in urls)))


def _derive_model(values: dict[str, Any]) -> None:
    """Gives each address its protocol, and a callable its defaults; a callable has no addresses.

    Raises `ConfigurationError` for two logins of one server, and for a callable beside a server.
    """
    if values.get("callable") and not (values.get("api") or values.get("servers")):
        values["api"] = PYTHON
    if values.get("api") == PYTHON:
        if "callable" not in values:
            raise ConfigurationError("MODEL_API is python: name the function in MODEL_CALLABLE, such as bot:reply")
        values["servers"] = ()
        values.setdefault("name", values["callable"])
        values.setdefault("history_messages", BOT_HISTORY_MESSAGES)
        values.setdefault("max_prompt_tokens", BOT_PROMPT_TOKENS)
        return
    if "callable" in values:
        raise ConfigurationError(
            "MODEL_CALLABLE is set while MODEL_API or MODEL_URL names a server: remove one, or set MODEL_API=python"
        )
    urls = values.get("servers") or tuple(server.url for server in ModelSettings.servers)
    if values.get("token") and any("@" in urlsplit(url).netloc for url in urls):
        raise ConfigurationError(
            "MODEL_URL holds a login while HUGGINGFACE_INFERENCE_TOKEN is set, and a request has one of them only: "
            "remove one"
        )
    values["servers"] = tuple(model_address(url, values.get("api")) for url in urls)
