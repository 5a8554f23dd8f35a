"""What a request asks of the model besides its messages: options, checked, under the names of Open Responses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from chatbot.protocol.client_errors import ClientError
from chatbot.protocol.documents import Text
from chatbot.protocol.openai.items import invalid, unsupported
from chatbot.protocol.problems import first_problem

#: Functions of one request.
MAX_TOOLS = 128
#: Parts of a response that clients of OpenAI's own service may ask for.
_INCLUDES = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def _number(least: float, most: float) -> fields.Float:
    return fields.Float(allow_none=True, validate=validate.Range(least, most))


def _check_reasoning(value: Mapping[str, Any]) -> None:
    for name in ("effort", "summary"):
        if not isinstance(value.get(name), str | None):
            raise ValidationError(f"must have a text as its {name}")


class OptionsSchema(Schema):
    """Options of a request for a reply. A field that is null counts as absent."""

    class Meta:
        unknown = EXCLUDE

    instructions = Text(allow_none=True)
    temperature = _number(0, 2)
    top_p = _number(0, 1)
    presence_penalty = _number(-2, 2)
    frequency_penalty = _number(-2, 2)
    max_output_tokens = fields.Integer(allow_none=True, strict=True, validate=validate.Range(1))
    max_tool_calls = fields.Integer(allow_none=True, strict=True, validate=validate.Range(1))
    top_logprobs = fields.Integer(allow_none=True, strict=True, validate=validate.Range(0, 20))
    parallel_tool_calls = fields.Boolean(allow_none=True)
    truncation = fields.String(allow_none=True, validate=validate.OneOf(["auto", "disabled"]))
    service_tier = fields.String(allow_none=True)
    metadata = fields.Dict(
        keys=fields.String(validate=validate.Length(max=64)),
        values=fields.String(validate=validate.Length(max=512), error_messages={"invalid": "must hold texts alone"}),
        allow_none=True,
        validate=validate.Length(max=16),
    )
    safety_identifier = Text(allow_none=True, validate=validate.Length(max=512))
    prompt_cache_key = Text(allow_none=True, validate=validate.Length(max=512))
    reasoning = fields.Dict(allow_none=True, validate=_check_reasoning)
    #: What of it exists here comes in any case.
    include = fields.List(fields.String(validate=validate.OneOf(_INCLUDES)), allow_none=True)
    stream_options = fields.Dict(allow_none=True)


_OPTIONS = OptionsSchema()


def parse_options(document: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the document has. Raises `ClientError`."""
    given = {name: value for name, value in document.items() if value is not None}
    try:
        options: dict[str, Any] = _OPTIONS.load(given)
    except ValidationError as problem:
        wrong = problem.messages if isinstance(problem.messages, dict) else {}
        param = str(next(iter(wrong), "body"))
        raise invalid(param, f"{param} {first_problem(problem)}") from None
    if options.get("top_logprobs"):
        raise unsupported("top_logprobs", "log probabilities")
    if given.get("tools"):
        options["tools"] = parse_tools(given["tools"])
    if "tool_choice" in given:
        options["tool_choice"] = _tool_choice(given["tool_choice"], options.get("tools", []))
    if given.get("text"):
        options["text"] = {"format": parse_format(_object(given["text"], "text").get("format"))}
    return options


def parse_tools(value: Any) -> list[dict[str, Any]]:
    """The function tools of a request. Raises `ClientError` for others."""
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise invalid("tools", f"tools must be a list of at most {MAX_TOOLS}", "invalid_type")
    tools = [_tool(_object(raw, f"tools[{number}]"), f"tools[{number}]") for number, raw in enumerate(value)]
    names = [tool["name"] for tool in tools]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise invalid(f"tools[{number}].name", f"tools[{number}].name is that of another function, {name}")
    return tools


def _tool(raw: Mapping[str, Any], param: str) -> dict[str, Any]:
    if raw.get("type") != "function":
        raise unsupported(f"{param}.type", f"tools of the type {str(raw.get('type'))[:40]!r}, only functions")
    name, description = raw.get("name"), raw.get("description")
    if not isinstance(name, str) or not _NAME.match(name):
        raise invalid(f"{param}.name", f"{param}.name has 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    if not isinstance(description, str | None):
        raise invalid(f"{param}.description", f"{param}.description must be a text", "invalid_type")
    parameters = raw.get("parameters")
    return {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": None if parameters is None else dict(_object(parameters, f"{param}.parameters")),
        "strict": raw.get("strict") if isinstance(raw.get("strict"), bool) else None,
    }


def _tool_choice(value: Any, tools: list[dict[str, Any]]) -> Any:
    if isinstance(value, str):
        if value not in ("auto", "none", "required"):
            raise invalid("tool_choice", "tool_choice must be auto, none, required or name a function")
        if value == "required" and not tools:
            raise invalid("tool_choice", "tool_choice is required, but there are no tools")
        return value
    choice = _object(value, "tool_choice")
    names = {tool["name"] for tool in tools}
    if choice.get("type") == "function":
        if choice.get("name") not in names:
            raise invalid("tool_choice", "tool_choice names a function that is not in tools")
        return {"type": "function", "name": choice["name"]}
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("tools")
        if not isinstance(allowed, list) or not all(isinstance(t, dict) and t.get("name") in names for t in allowed):
            raise invalid("tool_choice.tools", "tool_choice.tools must name functions of tools")
        mode = "required" if choice.get("mode") == "required" else "auto"
        return {
            "type": "allowed_tools",
            "tools": [{"type": "function", "name": tool["name"]} for tool in allowed],
            "mode": mode,
        }
    raise invalid("tool_choice", "tool_choice must be auto, none, required or name a function")


def parse_format(value: Any) -> dict[str, Any]:
    """The format of the reply's text. Raises `ClientError`."""
    if value is None:
        return {"type": "text"}
    given = _object(value, "text.format")
    match given.get("type"):
        case "text" | "json_object" as kind:
            return {"type": kind}
        case "json_schema":
            name, schema = given.get("name"), given.get("schema")
            if not isinstance(name, str) or not _NAME.match(name):
                raise invalid("text.format.name", "text.format.name has 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
            description = given.get("description")
            return {
                "type": "json_schema",
                "name": name,
                "description": description if isinstance(description, str) else None,
                "schema": dict(_object(schema, "text.format.schema")),
                "strict": bool(given.get("strict")),
            }
    raise invalid("text.format.type", "text.format.type must be text, json_object or json_schema")


def allowed_functions(options: Mapping[str, Any]) -> set[str]:
    """The names of the functions that the model may call."""
    choice = options.get("tool_choice")
    if choice == "none":
        return set()
    if isinstance(choice, dict):
        return {tool["name"] for tool in choice["tools"]} if "tools" in choice else {choice["name"]}
    return {tool["name"] for tool in options.get("tools", [])}


def _object(value: Any, param: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise invalid(param, f"{param} must be an object", "invalid_type")
    return value


def require_model(document: Mapping[str, Any]) -> None:
    """Raises `ClientError` for a document without a model's name."""
    if not isinstance(document.get("model"), str):
        raise ClientError("missing_required_parameter", "model is missing", param="model")
