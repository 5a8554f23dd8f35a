"""The model at every address that can be posted to."""

from __future__ import annotations

import dataclasses

import pytest

from chatbot.config import ModelAddress, ModelSettings, Settings
from chatbot.worker.models import create_model
from chatbot.worker.models.base import Model
from devtools.fake_model import ModelServer
from tests.support.models import PATHS, InLoop, ModelFactory


@pytest.fixture(params=PATHS)
def make(request: pytest.FixtureRequest, model: ModelServer) -> ModelFactory:
    """A model at each address; `changes` are settings, `base` another server.

    At one of them `requests` is the client, as outside of a worker.
    """

    def factory(base: str = "", **changes: object) -> Model:
        settings = ModelSettings(
            servers=(ModelAddress((base or model.url) + request.param, PATHS[request.param]),),
            token="hf_secret-secret",
            read_timeout=1.0,
            loading_timeout=1.0,
            max_new_tokens=64,
        )
        made = create_model(Settings(model=dataclasses.replace(settings, **changes)))  # type: ignore[arg-type]
        return made if request.param == "/v1/completions" else InLoop(made)

    return factory
