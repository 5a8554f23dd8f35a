"""What model servers and proxies say when they fail: each way is a row, sent by a real server on each protocol."""

# ruff: noqa: E501 - a row holds the words of one server

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chatbot.worker.models.errors import (
    ContentRefused,
    ModelError,
    ModelLoading,
    ModelUnavailable,
    NotSupported,
    PermanentModelError,
    PromptTooLong,
    RequestRefused,
    TransientModelError,
)
from tests.support.byte_server import (
    CHAT,
    COMPLETIONS,
    HF,
    STREAM,
    ByteServer,
    byte_server,
    chunked,
    event,
    reply,
    response,
)


@pytest.fixture(scope="module")
def server() -> Iterator[ByteServer]:
    with byte_server() as running:
        yield running


def openai(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None, **fields}}


def flat(message: str, **fields: Any) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400, **fields}


INVALID = {"type": "invalid_request_error"}
MAX_CONTEXT = "This model's maximum context length is 2048 tokens. However, you requested 2300 tokens"
#: Server, status, body.
TOO_LONG: list[tuple[str, int, Any]] = [
    ("OpenAI", 400, openai(f"{MAX_CONTEXT} (2044 in the messages, 256 in the completion).", **INVALID, code="context_length_exceeded")),
    ("OpenAI, by code alone", 400, openai("Bad request", **INVALID, code="context_length_exceeded")),
    ("OpenAI, newer", 400, openai("Your input exceeds the context window of this model. Please adjust your input and try again.", **INVALID)),
    ("OpenAI, configured", 400, openai("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 290000 tokens.", **INVALID)),
    ("OpenAI, characters", 400, openai("Invalid 'messages[1].content': string too long. Expected a string with maximum length 1048576, but got a string with length 1200000 instead.", **INVALID, code="string_above_max_length")),
    ("OpenAI, per minute", 429, openai("Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 39448. The input or output tokens must be reduced in order to run successfully.", type="tokens", code="rate_limit_exceeded")),
    ("vLLM", 400, flat(f"{MAX_CONTEXT} (2044 in the messages, 256 in the completion). Please reduce the length of the messages or completion.")),
    ("vLLM, newer", 400, openai("The decoder prompt (length 12324) is longer than the maximum model length of 8192. Make sure that `max_model_len` is no smaller than the number of text tokens.", type="BadRequestError", code=400)),
    ("vLLM, input tokens", 400, openai("You passed 2100 input tokens and requested 256 output tokens. However, the model's context length is only 2048 tokens, resulting in a maximum input length of 1792 tokens. Please reduce the length of the input prompt.", code=400)),
    ("vLLM, both names", 400, openai("'max_tokens' or 'max_completion_tokens' is too large: 256. This model's maximum context length is 2048 tokens and your request has 2000 input tokens (256 > 2048 - 2000).", code=400)),
    ("vLLM, 500", 500, openai("The decoder prompt (length 9) is longer than the maximum model length of 8.", type="InternalServerError", code=500)),
    ("SGLang", 400, flat("The input (85050 tokens) is longer than the model's context length (32768 tokens).")),
    ("SGLang, total", 400, flat("Requested token count exceeds the model's maximum context length of 202752 tokens. You requested a total of 202941 tokens: 170941 tokens from the input messages and 32000 tokens for the completion.")),
    ("SGLang, allowed", 400, flat("Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens). Use a shorter input or enable --allow-auto-truncate.")),
    ("TGI", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and 256 `max_new_tokens`", "error_type": "validation"}),
    ("TGI, inputs", 422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 4096", "error_type": "validation"}),
    ("TGI, 413", 413, {"error": "Input validation error", "error_type": "validation"}),
    ("llama.cpp", 400, openai("request (8000 tokens) exceeds the available context size (2048 tokens), try increasing it", type="exceed_context_size_error", code=400, n_prompt_tokens=8000, n_ctx=2048)),
    ("llama.cpp, by type alone", 400, openai("no", type="exceed_context_size_error", code=400)),
    ("llama.cpp, older", 500, openai("the request exceeds the available context size. try increasing the context size or enable context shift", type="server_error", code=500)),
    ("llama.cpp, batch", 500, openai("input is too large to process. increase the physical batch size", type="server_error", code=500)),
    ("llama.cpp, during the reply", 500, openai("Context size has been exceeded.", type="server_error", code=500)),
    ("llama-cpp-python", 400, openai("This model's maximum context length is 512 tokens, however you requested 590 tokens", code="context_length_exceeded")),
    ("LM Studio", 400, {"error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough. Try to load the model with a larger context length, or provide a shorter input"}),
    ("LM Studio, n_keep", 400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length."}),
    ("Ollama", 400, openai("the input length exceeds the context length", type="api_error")),
    ("Ollama, cloud", 400, openai("prompt too long; exceeded max context length by 123 tokens", **INVALID)),
    ("LiteLLM", 400, openai("litellm.ContextWindowExceededError: litellm.BadRequestError: this did not fit. Received Model Group=gpt", code="400")),
    ("LiteLLM, its own check", 400, openai("litellm.BadRequestError: Requested tokens (2300) exceed context window of 2048", code="400")),
    ("Mistral", 400, flat("Prompt contains 141072 tokens and 0 draft tokens, too large for model with 131072 maximum context length", type="invalid_request_prompt", code="3051")),
    ("Mistral, by code alone", 400, flat("no", type="invalid_request_error", code="3051")),
    ("Gemini", 400, [{"error": {"code": 400, "message": "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).", "status": "INVALID_ARGUMENT"}}]),
    ("Vertex", 400, [{"error": {"code": 400, "message": "Unable to submit request because the input token count is 40000 but model only supports up to 32768. Reduce the input token count and try again.", "status": "INVALID_ARGUMENT"}}]),
    ("Anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 213462 tokens > 200000 maximum"}}),
    ("Anthropic's OpenAI door", 400, openai("input length and `max_tokens` exceed context limit: 197202 + 21333 > 200000, decrease input length or `max_tokens` and try again", **INVALID)),
    ("Anthropic, bytes", 413, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}),
    ("Groq", 413, openai("Request too large for model `llama-3.3-70b-versatile` in organization `org_x` service tier `on_demand` on tokens per minute (TPM): Limit 12000, Requested 14137, please reduce your message size and try again.", type="tokens", code="rate_limit_exceeded")),
    ("Groq, context", 400, openai("Please reduce the length of the messages or completion.", **INVALID, param="messages", code="context_length_exceeded")),
    ("GitHub Models", 413, openai("Request body too large for gpt-4o model. Max size: 8000 tokens.", code="tokens_limit_reached", details="Request body too large for gpt-4o model. Max size: 8000 tokens.")),
    ("GitHub Copilot", 400, openai("prompt token count of 130000 exceeds the limit of 128000", code="model_max_prompt_tokens_exceeded", **INVALID)),
    ("OpenRouter", 400, openai("This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens (39744 of text input, 256 in the output).", code=400)),
    ("OpenRouter, its provider", 400, openai("Provider returned error", code=400, metadata={"provider_name": "X", "raw": json.dumps(openai("prompt is too long: 9 tokens > 8 maximum"))})),
    ("Azure", 400, openai("This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce the length of the messages.", **INVALID, param="messages", code="context_length_exceeded")),
    ("Cohere", 400, {"message": "too many tokens: total number of tokens (prompt and prediction) cannot exceed 4081 - received 5000. Try using a shorter prompt, a smaller max_tokens value, or both."}),
    ("Bedrock", 400, {"message": "Input is too long for requested model."}),
    ("Bedrock, Titan", 400, {"message": "400 Bad Request: Too many input tokens. Max input tokens: 8192, request input token count: 9279"}),
    ("Bedrock, characters", 400, {"message": "Malformed input request: expected maxLength: 50000, actual: 52611, please reformat your input and try again."}),
    ("xAI", 400, {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
    ("Cerebras", 400, {"message": "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}),
    ("Moonshot", 400, openai("Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)", **INVALID)),
    ("MiniMax", 400, openai("invalid params, context window exceeds limit (2013)", type="bad_request_error", code="2013")),
    ("Zhipu", 400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
    ("DashScope", 400, openai("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]", **INVALID, code="invalid_parameter_error")),
    ("Fireworks", 400, openai("The prompt is too long: 9000, model maximum context length: 8191", **INVALID)),
    ("TensorRT-LLM", 400, flat("The sum of prompt length (5000.0), query length (0) and max_tokens (256) should not exceed max_num_tokens (4096)")),
    ("TensorRT-LLM, older", 500, {"error": "prompt length (5000) exceeds maximum input length (4096). Set log level to info and check TRTLLM logs"}),
    ("TabbyAPI", 422, {"detail": "Prompt length 5000 is greater than max_seq_len 4096"}),
    ("transformers", 500, {"error": "index 2048 is out of bounds for dimension 0 with size 2048"}),
    ("nginx", 413, "<html><head><title>413 Request Entity Too Large</title></head></html>"),
    ("a proxy, without a body", 413, ""),
    ("aiohttp", 413, "Maximum request body size 1048576 exceeded, actual body size 2000000."),
    ("Hugging Face's router", 400, openai("Input validation error: inputs tokens + max_new_tokens must be <= 4096. Given: 5000 inputs tokens and 256 max_new_tokens", type="validation")),
    ("Cloudflare", 400, {"errors": [{"code": 5021, "message": "AiError: The estimated number of input and maximum output tokens (30000) exceeded this model context window limit (24000)"}], "success": False}),
    ("Databricks", 400, {"error_code": "BAD_REQUEST", "message": "prompt_tokens (5000) exceeds the maximum context length"}),
    ("Perplexity", 400, openai("Your messages exceed the maximum number of tokens")),
    ("Reka", 400, {"detail": "conversation length of 9000 tokens is above the limit"}),
    ("Stepfun", 400, openai("This model's maximum length is 8192 tokens, but request 9000")),
    ("exllama", 500, {"error": "Total sequence length exceeds cache size in model.forward"}),
    ("KoboldCpp", 500, {"detail": {"msg": "Max context length exceeded", "type": "bad_input"}}),
    ("FastAPI", 400, {"detail": "Input text is too long"}),
]  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        chunked(f"error: {json.dumps(openai('the request exceeds the available context size')['error'])}\n\n"),
        chunked(event({"choices": [{"finish_reason": {"type": "abort", "status_code": 400, "message": "The input (9 tokens) is longer than the model's context length (8 tokens)."}}]})),
    ],
    ids=["llama.cpp of 2025, in a field of its own", "SGLang, as a finish reason"],
)  # fmt: skip
def test_a_prompt_that_is_too_long_for_a_stream_that_has_begun_is_seen_as_such(
    server: ByteServer, answer: bytes
) -> None:
    server.script(answer)
    for wire in (COMPLETIONS, CHAT):
        with pytest.raises(PromptTooLong):
            reply(wire.model(server))


@pytest.mark.parametrize(("name", "status", "body"), TOO_LONG, ids=[name for name, *_ in TOO_LONG])
def test_a_prompt_that_is_too_long_is_seen_as_such(server: ByteServer, name: str, status: int, body: Any) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    for wire in (HF, COMPLETIONS, CHAT):
        server.script(response(text, status=f"{status} Error"))
        with pytest.raises(PromptTooLong):
            reply(wire.model(server))
    if status in (413, 429) or isinstance(body, str):
        return
    # The same within a stream.
    server.script(chunked(event(body)))
    with pytest.raises(PromptTooLong):
        reply(CHAT.model(server))


def cases(*rows: tuple[str, type[ModelError], int, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "error", "status", "body"), rows, ids=[row[0] for row in rows])


@cases(
    (
        "llama.cpp, an image",
        NotSupported,
        500,
        {
            "error": {
                "code": 500,
                "message": "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
                "type": "server_error",
            }
        },
    ),
    (
        "llama.cpp, tools",
        NotSupported,
        500,
        {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}},
    ),
    (
        "vLLM, tools",
        NotSupported,
        400,
        {
            "error": {
                "message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
                "type": "BadRequestError",
                "code": 400,
            }
        },
    ),
    (
        "vLLM, an image",
        NotSupported,
        400,
        {"error": {"message": "gpt2 is not a multimodal model", "type": "BadRequestError", "code": 400}},
    ),
    (
        "Ollama, tools",
        NotSupported,
        400,
        {"error": {"message": "registry.ollama.ai/library/gemma:2b does not support tools", "type": "api_error"}},
    ),
    (
        "OpenAI, an image",
        NotSupported,
        400,
        {
            "error": {
                "message": "Invalid content type. image_url is only supported by certain models.",
                "type": "invalid_request_error",
            }
        },
    ),
    (
        "OpenRouter, tools",
        NotSupported,
        404,
        {"error": {"message": "No endpoints found that support tool use.", "code": 404}},
    ),
)
def test_what_the_model_does_not_have_is_not_asked_for_again(
    server: ByteServer, name: str, error: type[ModelError], status: int, body: Any
) -> None:
    server.script(response(json.dumps(body), status=f"{status} Error"))
    with pytest.raises(error):
        reply(CHAT.model(server))


AZURE = {
    "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.",
    "type": None, "param": "prompt", "code": "content_filter", "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True, "severity": "high"}}},
}  # fmt: skip


@cases(
    ("Azure", ContentRefused, 400, {"error": AZURE}),
    ("Azure, by its inner code", ContentRefused, 400, {"error": {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    ("Azure, by its wording", ContentRefused, 400, {"error": {"message": AZURE["message"]}}),
    ("OpenAI", ContentRefused, 400, openai("Your request was rejected as a result of our safety system.", code="content_policy_violation")),
    ("OpenAI, usage policy", ContentRefused, 400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt")),
    ("OpenRouter", ContentRefused, 403, openai("x requires moderation on Y. Your input was flagged for \"violence\". No credits were charged.", code=403, metadata={"reasons": ["violence"], "flagged_input": "hello"})),
    ("LiteLLM", ContentRefused, 400, openai("litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - filtered", code="400")),
    ("Anthropic", ContentRefused, 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
    ("Gemini", ContentRefused, 400, [{"error": {"code": 400, "message": "The prompt was blocked by safety filters", "status": "INVALID_ARGUMENT"}}]),
    ("DeepSeek", ContentRefused, 400, openai("Content Exists Risk", type="invalid_request_error", code="invalid_request_error")),
    ("Moonshot", ContentRefused, 400, openai("The request was rejected because it was considered high risk", type="content_filter")),
    ("DashScope", ContentRefused, 400, openai("Input data may contain inappropriate content.", code="data_inspection_failed")),
    ("Zhipu", ContentRefused, 400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    ("xAI", ContentRefused, 403, {"code": "The caller does not have permission", "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"}),
    ("Bedrock", ContentRefused, 400, {"message": "The request was blocked by a guardrail"}),
    ("Cloudflare's gateway", ContentRefused, 424, {"success": False, "error": [{"code": 2016, "message": "Prompt blocked due to security configurations"}]}),
    ("LiteLLM's guardrail", ContentRefused, 400, {"error": "Violated guardrail policy"}),
    ("MiniMax", ContentRefused, 200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}, "choices": None}),
    ("a gateway", ContentRefused, 451, ""),
    ("in a document under 200", ContentRefused, 200, {"error": AZURE}),
    ("OpenAI's quota", PermanentModelError, 429, openai("You exceeded your current quota, please check your plan and billing details.", type="insufficient_quota", code="insufficient_quota")),
    ("OpenAI's quota, by type alone", PermanentModelError, 429, openai("no", type="insufficient_quota")),
    ("OpenAI's billing", PermanentModelError, 400, openai("Billing hard limit has been reached", code="billing_hard_limit_reached")),
    ("Anthropic's credits", PermanentModelError, 400, openai("Your credit balance is too low to access the Anthropic API.", **INVALID)),
    ("OpenRouter's credits", PermanentModelError, 402, openai("This request requires more credits, or fewer max_tokens.", code=402)),
    ("Moonshot's quota", PermanentModelError, 429, openai("Your account is suspended, please check your plan and billing details", type="exceeded_current_quota_error")),
    ("Zhipu's balance", PermanentModelError, 429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}}),
    ("LiteLLM's budget", PermanentModelError, 400, openai("Budget has been exceeded! Current cost: 2.0, Max budget: 1.0", type="budget_exceeded", code="400")),
    ("DeepSeek's balance", PermanentModelError, 402, openai("Insufficient Balance", type="unknown_error")),
    ("quota in a stream", PermanentModelError, 200, openai("You exceeded your current quota", code="insufficient_quota")),
    ("OpenAI's rate", TransientModelError, 429, openai("Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 25000, Requested 8000. Please try again in 6s.", type="tokens", code="rate_limit_exceeded")),
    ("Bedrock's rate", TransientModelError, 429, {"message": "Too many tokens, please wait before trying again."}),
    ("Gemini's quota of a minute", TransientModelError, 429, [{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing details. Please retry in 37.9s.", "status": "RESOURCE_EXHAUSTED"}}]),
    ("Mistral's capacity", TransientModelError, 429, flat("Service tier capacity exceeded for this model.", code="3505")),
    ("an HTML 429", TransientModelError, 429, "<html><h1>429 Too Many Requests</h1></html>"),
    ("a rate in a stream", TransientModelError, 200, openai("Rate limit exceeded", code=429)),
    ("llama.cpp loads", ModelLoading, 503, openai("Loading model", type="unavailable_error", code=503)),
    ("Hugging Face loads", ModelLoading, 503, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}),
    ("an estimate beyond all numbers", ModelLoading, 503, {"error": "Model gpt2 is currently loading", "estimated_time": 10**400}),
    ("a status in the document", ModelUnavailable, 200, {"statusCode": 503, "error": "Service Unavailable", "message": "starting"}),
    ("a proxy without a login", PermanentModelError, 407, "<html><h1>407 Proxy Authentication Required</h1></html>"),
    ("a load balancer whose client left", TransientModelError, 460, ""),
    ("a locked server", TransientModelError, 423, ""),
    ("loading under 200", ModelLoading, 200, {"error": "Model gpt2 is currently loading"}),
    ("scaled to zero", ModelLoading, 502, {"error": "The endpoint is scaling from zero"}),
    ("plain 503", ModelUnavailable, 503, ""),
    ("nginx 503", ModelUnavailable, 503, "<html><h1>503 Service Temporarily Unavailable</h1></html>"),
    ("nginx 502", ModelUnavailable, 502, "<html><h1>502 Bad Gateway</h1></html>"),
    ("Ollama is busy", ModelUnavailable, 503, openai("server busy, please try again.  maximum pending requests exceeded", type="api_error")),
    ("Anthropic is overloaded", ModelUnavailable, 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ("Gemini is overloaded", ModelUnavailable, 503, [{"error": {"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}}]),
    ("OpenRouter has none", ModelUnavailable, 503, openai("No available model provider that meets your routing requirements", code=503)),
    ("overloaded in a stream", ModelUnavailable, 200, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ("a crash", TransientModelError, 500, openai("CUDA out of memory", code=500)),
    ("a gateway's timeout", TransientModelError, 504, ""),
    ("a 502 in a stream", ModelUnavailable, 200, openai("Provider returned error", code=502)),
    ("a wrong token", PermanentModelError, 401, openai("Incorrect API key provided", code="invalid_api_key")),
    ("Gemini's wrong token", PermanentModelError, 400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}]),
    ("a country", PermanentModelError, 403, openai("Country, region, or territory not supported", code="unsupported_country_region_territory")),
    ("an unknown model", PermanentModelError, 404, openai("The model `x` does not exist", code="model_not_found")),
    ("one-api's unknown model", PermanentModelError, 503, openai("no channel", code="model_not_found")),
    ("no such address", PermanentModelError, 404, "404 page not found"),
    ("Groq's capacity", ModelUnavailable, 498, openai("Flex tier capacity exceeded")),
    ("Ollama loads for long", ModelLoading, 500, openai("timed out waiting for llama runner to start - progress 0.00 - ", type="api_error")),
    ("Anthropic's limit", RequestRefused, 400, openai("max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens", **INVALID)),
    ("the reply's limit alone", RequestRefused, 400, openai("max_tokens is too large: 8192. This model supports at most 4096 completion tokens, whereas you provided 8192.", **INVALID)),
    ("vLLM's limit", RequestRefused, 400, flat("max_tokens=5000 cannot be greater than max_model_len=2048")),
    ("too many stops", RequestRefused, 400, openai("Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.", **INVALID)),
    ("a bad temperature", RequestRefused, 422, {"error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation"}),
    ("an invalid request in a stream", RequestRefused, 200, openai("bad", **INVALID)),
    ("a model that could not be loaded", RequestRefused, 400, {"error": "Failed to load model: insufficient memory"}),
)  # fmt: skip
def test_each_error_has_its_meaning(
    server: ByteServer, name: str, error: type[ModelError], status: int, body: Any
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    for wire in (HF, COMPLETIONS, CHAT):
        for answer in [response(text, status=f"{status} Error")] + ([chunked(event(body))] if status == 200 else []):
            server.script(answer)
            with pytest.raises(error) as caught:
                reply(wire.model(server))
            assert type(caught.value) is error


@pytest.mark.parametrize(
    ("seconds", "headers", "body"),
    [
        (7.0, {"Retry-After": "7"}, ""),
        (0.25, {"retry-after-ms": "250", "Retry-After": "1"}, ""),
        (1.5, {"x-ms-retry-after-ms": "1500"}, ""),
        (1.0, {"x-ratelimit-reset-requests": "1s"}, ""),
        (360.0, {"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "59"}, ""),
        (1.0, {"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "0"}, ""),
        (0.12, {"x-ratelimit-reset-tokens": "120ms"}, ""),
        (179.56, {"x-ratelimit-reset-requests": "2m59.56s"}, ""),
        (30.0, {"x-ratelimit-reset-tokens": "30"}, ""),
        (200.0, {"x-ratelimit-reset": "{seconds}"}, ""),
        (200.0, {"X-RateLimit-Reset": "{milliseconds}"}, ""),
        (200.0, {"anthropic-ratelimit-tokens-reset": "{time}"}, ""),
        (3.0, {"Retry-After": "3", "x-ratelimit-reset-requests": "6m0s"}, ""),
        (None, {"x-ratelimit-reset-tokens": "0", "x-ratelimit-remaining-tokens": "-1"}, ""),
        (None, {"Retry-After": "soon"}, ""),
        (4.77, {}, openai("Rate limit reached. Please try again in 4.77s. Need more tokens?")),
        (59.0, {}, openai("Requests have exceeded the call rate limit. Please retry after 59 seconds.")),
        (37.0, {}, [{"error": {"code": 429, "message": "quota", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}]}}]),
        (None, {}, openai("Limit 30000 of 25 users, please try again later")),
    ],
)  # fmt: skip
def test_the_wait_that_a_server_asks_for_is_honoured(
    server: ByteServer, seconds: float | None, headers: dict[str, str], body: Any
) -> None:
    then = datetime.now(UTC) + timedelta(seconds=200)
    at = {
        "seconds": f"{then.timestamp():.0f}",
        "milliseconds": f"{then.timestamp() * 1000:.0f}",
        "time": then.isoformat(),
    }
    lines = tuple(f"{name}: {value.format(**at)}" for name, value in headers.items())
    for status, error in ((429, TransientModelError), (503, ModelUnavailable)):
        server.script(response(json.dumps(body), status=f"{status} Error", headers=lines))
        with pytest.raises(error) as caught:
            reply(CHAT.model(server))
        assert isinstance(caught.value, TransientModelError)
        wait = caught.value.retry_after
        assert wait == seconds if seconds is None or wait is None else wait == pytest.approx(seconds, abs=15)


def test_an_error_sent_as_an_event_under_its_status_is_read(server: ByteServer) -> None:
    server.script(response(event(openai("no", code="context_length_exceeded")), status="400 Bad Request", kind=STREAM))
    with pytest.raises(PromptTooLong):
        reply(CHAT.model(server))


def test_what_a_server_quotes_of_the_request_decides_nothing(server: ByteServer) -> None:
    quoted = {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": "context length exceeded; content_filter"}]}  # fmt: skip
    server.script(response(json.dumps(quoted), status="422 Unprocessable Entity"))
    with pytest.raises(RequestRefused) as caught:
        reply(CHAT.model(server))
    assert type(caught.value) is RequestRefused
