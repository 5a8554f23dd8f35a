"""What the interfaces below `/v1` take and answer, as marshmallow schemas: `/openapi.json` publishes them.

Open Responses: https://www.openresponses.org/specification. Requests are checked in create.py, chat.py and options.py.
"""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from chatbot.protocol.openai.options import OptionsSchema


def _one_of(*values: str, **options: Any) -> fields.String:
    return fields.String(required=True, validate=validate.OneOf(values), **options)


def _fixed(value: str) -> fields.String:
    return fields.String(required=True, validate=validate.Equal(value))


def _nullable(field: type[fields.Field[Any]], **options: Any) -> Any:
    return field(required=True, allow_none=True, **options)


def _said(text: str) -> dict[str, str]:
    return {"description": text}


class OpenAIErrorBodySchema(Schema):
    """What went wrong, as OpenAI's clients expect it."""

    code = fields.String(required=True)
    message = fields.String(required=True)
    type = _one_of(
        "invalid_request_error", "authentication_error", "not_found_error", "rate_limit_error", "server_error"
    )
    param = _nullable(fields.String, metadata=_said("The field of the request that is at fault"))


class OpenAIErrorSchema(Schema):
    """A request was refused or could not be served."""

    error = fields.Nested(OpenAIErrorBodySchema, required=True)


class ModelSchema(Schema):
    """A model that the caller may name."""

    id = fields.String(required=True)
    object = _fixed("model")
    created = fields.Integer(required=True)
    owned_by = fields.String(required=True)


class ModelsSchema(Schema):
    """The models that the caller may name."""

    object = _fixed("list")
    data = fields.List(fields.Nested(ModelSchema), required=True)


class CreateResponseSchema(OptionsSchema):
    """A request for a response."""

    input = fields.Raw(required=True, metadata=_said("A text, or a list of items"))
    model = fields.String(allow_none=True)
    stream = fields.Boolean(allow_none=True)
    background = fields.Boolean(allow_none=True)
    store = fields.Boolean(allow_none=True)
    previous_response_id = fields.String(allow_none=True)
    tools = fields.List(fields.Dict(), allow_none=True, metadata=_said("Functions"))
    tool_choice = fields.Raw(allow_none=True)
    text = fields.Dict(allow_none=True, metadata=_said("`format`: text, json_object or json_schema"))


class CompactSchema(Schema):
    """A conversation to be summarized."""

    model = fields.String(required=True)
    input = fields.Raw(allow_none=True)
    previous_response_id = fields.String(allow_none=True)
    instructions = fields.String(allow_none=True)
    prompt_cache_key = fields.String(allow_none=True)


class _CachedSchema(Schema):
    cached_tokens = fields.Integer(required=True)


class _ReasonedSchema(Schema):
    reasoning_tokens = fields.Integer(required=True)


class ResponseUsageSchema(Schema):
    """The tokens of a response."""

    input_tokens = fields.Integer(required=True)
    input_tokens_details = fields.Nested(_CachedSchema, required=True)
    output_tokens = fields.Integer(required=True)
    output_tokens_details = fields.Nested(_ReasonedSchema, required=True)
    total_tokens = fields.Integer(required=True)


class ResponseSchema(Schema):
    """A response."""

    id = fields.String(required=True)
    object = _fixed("response")
    created_at = fields.Integer(required=True)
    completed_at = _nullable(fields.Integer)
    status = _one_of("queued", "in_progress", "completed", "incomplete", "failed", "cancelled")
    incomplete_details = _nullable(fields.Dict)
    model = fields.String(required=True)
    previous_response_id = _nullable(fields.String)
    output = fields.List(fields.Dict(), required=True, metadata=_said("Messages and function calls"))
    error = _nullable(fields.Dict)
    reasoning = fields.Dict(required=True)
    usage = fields.Nested(ResponseUsageSchema, required=True, allow_none=True)
    service_tier = fields.String(required=True)
    instructions = _nullable(fields.String)
    temperature = fields.Float(required=True)
    top_p = fields.Float(required=True)
    presence_penalty = fields.Float(required=True)
    frequency_penalty = fields.Float(required=True)
    max_output_tokens = _nullable(fields.Integer)
    max_tool_calls = _nullable(fields.Integer)
    top_logprobs = fields.Integer(required=True)
    parallel_tool_calls = fields.Boolean(required=True)
    truncation = _one_of("auto", "disabled")
    metadata = fields.Dict(required=True)
    safety_identifier = _nullable(fields.String)
    prompt_cache_key = _nullable(fields.String)
    tools = fields.List(fields.Dict(), required=True)
    tool_choice = fields.Raw(required=True)
    text = fields.Dict(required=True)
    store = fields.Boolean(required=True)
    background = fields.Boolean(required=True)


class DeletedSchema(Schema):
    """A response was deleted."""

    id = fields.String(required=True)
    object = _fixed("response")
    deleted = fields.Boolean(required=True)


class InputItemsSchema(Schema):
    """A page of the items that a response got."""

    object = _fixed("list")
    data = fields.List(fields.Dict(), required=True)
    first_id = _nullable(fields.String)
    last_id = _nullable(fields.String)
    has_more = fields.Boolean(required=True)


class CompactionSchema(Schema):
    """A conversation as one item that stands for it."""

    id = fields.String(required=True)
    object = _fixed("response.compaction")
    created_at = fields.Integer(required=True)
    output = fields.List(fields.Dict(), required=True)
    usage = fields.Nested(ResponseUsageSchema, required=True)


class CreateCompletionSchema(Schema):
    """A request for a chat completion; further options are those of OpenAI's interface."""

    messages = fields.List(fields.Dict(), required=True)
    model = fields.String(allow_none=True)
    stream = fields.Boolean(allow_none=True)


class CompletionUsageSchema(Schema):
    """The tokens of a completion."""

    prompt_tokens = fields.Integer(required=True)
    completion_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)
    prompt_tokens_details = fields.Nested(_CachedSchema, required=True)
    completion_tokens_details = fields.Nested(_ReasonedSchema, required=True)


class _SaidSchema(Schema):
    role = _fixed("assistant")
    content = _nullable(fields.String)
    refusal = _nullable(fields.String)
    reasoning_content = fields.String()
    tool_calls = fields.List(fields.Dict())


class _ChoiceSchema(Schema):
    index = fields.Integer(required=True)
    message = fields.Nested(_SaidSchema, required=True)
    logprobs = _nullable(fields.Dict)
    finish_reason = _one_of("stop", "length", "content_filter", "tool_calls")


class CompletionSchema(Schema):
    """A chat completion."""

    id = fields.String(required=True)
    object = _fixed("chat.completion")
    created = fields.Integer(required=True)
    model = fields.String(required=True)
    choices = fields.List(fields.Nested(_ChoiceSchema), required=True)
    usage = fields.Nested(CompletionUsageSchema, required=True, allow_none=True)
    service_tier = fields.String()
    system_fingerprint = fields.String(allow_none=True)
