"""The settings that only `make run` has."""

from dataclasses import dataclass

from chatbot.config import fields
from chatbot.config.groups import setting


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
