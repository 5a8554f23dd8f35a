"""The contracts: valid by the public validators, complete, and each with no more than there is."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from flask import Flask
from jsonschema import Draft7Validator
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.client_frames import CLIENT_FRAMES, parse_frame
from chatbot.web.contracts.asyncapi import asyncapi
from chatbot.web.contracts.openapi import openapi
from chatbot.web.routes import add_routes
from tests.support.contracts import Contracts

ASYNCAPI_SCHEMA = Path(__file__).parents[2] / "support" / "asyncapi" / "3.0.0.json"


def test_the_openapi_document_is_valid() -> None:
    openapi_spec_validator.validate(openapi())
    broken = copy.deepcopy(openapi())
    del broken["paths"]["/token"]["post"]["responses"]["200"]["description"]
    with pytest.raises(OpenAPIValidationError):
        openapi_spec_validator.validate(broken)


def test_the_asyncapi_document_is_valid() -> None:
    validator = Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_text("utf-8")))
    assert list(validator.iter_errors(asyncapi())) == []
    broken = copy.deepcopy(asyncapi())
    del broken["operations"]["send"]["action"]
    assert list(validator.iter_errors(broken))


@pytest.mark.parametrize("document", [openapi(), asyncapi()], ids=["openapi", "asyncapi"])
def test_every_reference_leads_somewhere_and_every_schema_is_used(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    for reference in references:
        place = document
        for part in reference.split("/"):
            place = place[part]
    used = {reference.rpartition("/")[2] for reference in references}
    assert set(document["components"]["schemas"]) <= used


def test_every_route_stands_in_the_contract_and_no_other() -> None:
    app = Flask("contracts", static_folder=None)
    from chatbot.web.assets import add_assets

    add_assets(app)
    add_routes(app)
    there = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert there == {(path, method) for path, methods in openapi()["paths"].items() for method in methods}


EXAMPLES: dict[str, dict[str, Any]] = {
    "message": {"type": "message", "msg": "hello", "id": "m1", "parent": None, "on_busy": "queue"},
    "edit": {"type": "edit", "of": "m1", "msg": "hello"},
    "regenerate": {"type": "regenerate", "of": "m1", "id": None},
    "select": {"type": "select", "id": "m1"},
    "stop": {"type": "stop"},
    "retry": {"type": "retry", "id": "m1"},
    "feedback": {"type": "feedback", "id": "m1", "rating": None, "text": None},
}


@pytest.mark.parametrize("kind", CLIENT_FRAMES)
def test_the_contract_and_the_parser_agree_on_what_clients_may_send(kind: str) -> None:
    schema = CLIENT_FRAMES[kind]()
    frame = EXAMPLES[kind]
    assert parse_frame(json.dumps(frame), 100).type == kind
    assert schema.validate(frame) == {}
    values: tuple[Any, ...] = (None, "", 5, "not an id!", [])
    variants = [{**frame, name: value} for name in schema.fields for value in values]
    variants += [{key: value for key, value in frame.items() if key != name} for name in frame]
    for variant in variants:
        if variant.get("type") != kind or variant.get("msg") == "":
            continue
        try:
            parse_frame(json.dumps(variant), 100)
            taken = True
        except ClientError:
            taken = False
        assert taken == (schema.validate(variant) == {}), variant


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ({"type": "ack", "id": "m1", "more": 1}, "Additional properties"),
        ({"type": "ack"}, "'id' is a required property"),
        ({"type": "ack", "id": "m 1"}, "does not match"),
        ({"type": "new"}, "no contract has the frame"),
        ({"type": "message", "id": "m1", "source": "robot"}, "is not one of"),
    ],
)
def test_a_frame_that_breaks_the_contract_is_found(frame: dict[str, Any], problem: str) -> None:
    contracts = Contracts()
    contracts.check_frame(frame)
    assert problem in str(contracts.problems)
