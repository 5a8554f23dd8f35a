"""JSON Schemas from marshmallow schemas, for both documents."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from chatbot.protocol.documents import Text

TITLE, VERSION = "chatbot", "1"
#: The documents' `info`.
INFO: dict[str, Any] = {
    "title": TITLE,
    "version": VERSION,
    "license": {"name": "MIT", "identifier": "MIT"},
}
_SCHEMAS = "#/components/schemas/"


def reference(schema: type[Schema]) -> dict[str, str]:
    return {"$ref": _SCHEMAS + name_of(schema)}


def name_of(schema: type[Schema]) -> str:
    """The name of a schema in the documents: its class's, without `Schema`."""
    return schema.__name__.removesuffix("Schema")


def component_schemas(schemas: Iterable[type[Schema]]) -> dict[str, Any]:
    """The JSON Schema of each, by name, and of those that they hold."""
    plugin = MarshmallowPlugin(schema_name_resolver=lambda schema: name_of(_class(schema)))
    spec = APISpec(TITLE, VERSION, "3.1.0", plugins=[plugin])
    converter: OpenAPIConverter = plugin.converter  # type: ignore[assignment]  # set by `APISpec`
    kinds: list[type[Any]] = [Text, *_subclasses(Text)]
    for kind in kinds:
        converter.field_mapping[kind] = ("string", None)
    converter.field_mapping[fields.AwareDateTime] = ("string", "date-time")
    for schema in schemas:
        name = name_of(schema)
        if name not in spec.components.schemas:
            spec.components.schema(name, schema=schema)
        spec.components.schemas[name] |= _described(schema)
    # A client ignores fields that it does not know, and the server those that it does not know.
    return {name: _open(schema) for name, schema in sorted(spec.components.schemas.items())}


def _class(schema: Any) -> type[Schema]:
    return schema if isinstance(schema, type) else type(schema)


def _subclasses(kind: type[Any]) -> list[type[Any]]:
    return [each for child in kind.__subclasses__() for each in (child, *_subclasses(child))]


def _open(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "additionalProperties"}


def _described(schema: type[Schema]) -> dict[str, str]:
    own = schema.__dict__.get("__doc__")
    return {"description": inspect.cleandoc(own).partition("\n\n")[0].replace("\n", " ")} if own else {}
