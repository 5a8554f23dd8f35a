"""Reads the settings from the environment, checks them, and finds misspelled variables."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dotenv import load_dotenv
from marshmallow import ValidationError

from chatbot.config.addresses import compose_redis_url, model_address, with_sentinel_login
from chatbot.config.settings import (
    FlowerSettings,
    LimitsSettings,
    LogSettings,
    ModelSettings,
    RedisSettings,
    WebSettings,
    WorkerSettings,
)
from chatbot.errors import ConfigurationError
from chatbot.store.sentinel import is_sentinel

#: How much two names must have in common for one to count as a misspelling of the other.
_SIMILARITY = 0.85
#: A variable of Flower's own that resembles a setting.
_FOREIGN = {"FLOWER_UNAUTHENTICATED_API"}
#: Characters: shorter names are similar to too many others.
_SHORTEST_MISSPELLING = 6


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

        Raises `ConfigurationError`, naming the variable, for a value that makes no sense.
        """
        given = {name: _read_group(group, environ) for name, group in GROUPS.items()}
        _derive_redis(given["redis"])
        _derive_model(given["model"])
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
    """The settings in the environment, completed by `.env` in the working folder. Raises `ConfigurationError`.

    `.env` is loaded into the environment, where Flower and gunicorn look for their own settings.
    """
    load_dotenv(os.path.join(os.getcwd(), ".env"))
    return Settings.from_env(os.environ)


def misspelled(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Variables that look like a setting and are none, each with the nearest setting's name."""
    known = {variable for variable, _, _ in variables()} | set(ALIASES.values()) | _FOREIGN
    found = []
    for name in environ:
        if name not in known and len(name) >= _SHORTEST_MISSPELLING:
            nearest = difflib.get_close_matches(name, known, 1, _SIMILARITY)
            found += [(name, nearest[0])] if nearest else []
    return found


def _read_group(group: type[Any], environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(group):
        variable = field.metadata["variable"]
        raw = environ.get(variable, "").strip() or environ.get(ALIASES.get(variable, variable), "").strip()
        if raw:
            try:
                values[field.name] = field.metadata["check"].deserialize(raw)
            except ValidationError as error:
                raise ConfigurationError(f"{variable} {error.messages[0]}") from None
    return values


def _derive_redis(values: dict[str, Any]) -> None:
    """Completes the URLs by the parts given separately, and derives the defaults that depend on them."""
    values["url"] = with_sentinel_login(compose_redis_url(values), values)
    values["broker_url"] = with_sentinel_login(values.get("broker_url", values["url"]), values)
    # Sentinel promotes a replica that may lack the newest writes: one replica must have what is acknowledged.
    values.setdefault("wait_replicas", int(is_sentinel(values["url"])))


def _derive_model(values: dict[str, Any]) -> None:
    """Gives each address its protocol."""
    urls = values.get("servers") or tuple(server.url for server in ModelSettings.servers)
    values["servers"] = tuple(model_address(url, values.get("api")) for url in urls)
