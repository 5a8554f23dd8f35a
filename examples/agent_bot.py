"""An agent with a tool, made with Pydantic AI. What it does before its reply is shown as its thinking.

AGENT_MODEL is the model as Pydantic AI names it: openai:gpt-5-mini, anthropic:claude-sonnet-4-5, …
"""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic_ai import (
    Agent,
    AgentRunResultEvent,
    FunctionToolCallEvent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    RunContext,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)

from chatbot.bot import Chunk, Context, Message, Usage

agent = Agent(
    os.environ.get("AGENT_MODEL", "openai:gpt-5-mini"),
    deps_type=Context,
    instructions="Answer in one or two sentences.",
    # The model's key is needed for the first reply, not for the start.
    defer_model_check=True,
)


@agent.instructions
def who_asks(run: RunContext[Context]) -> str:
    return f"The user's name is {run.deps.name}."


@agent.tool_plain
def time_in(zone: str) -> str:
    """The present time in a time zone, such as Europe/Paris."""
    try:
        return f"{datetime.now(ZoneInfo(zone)):%H:%M on %A}"
    except (ZoneInfoNotFoundError, ValueError):
        return f"There is no time zone {zone}."


async def reply(conversation: list[Message], context: Context) -> AsyncIterator[str | Chunk]:
    *earlier, question = conversation
    history = [past(message) for message in earlier]
    async with agent.run_stream_events(question.text, message_history=history, deps=context) as events:
        async for event in events:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                yield event.part.content
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                yield event.delta.content_delta
            elif isinstance(event, FunctionToolCallEvent):
                yield Chunk(reasoning=f"Calls {event.part.tool_name} with {event.part.args_as_json_str()}.\n")
            elif isinstance(event, AgentRunResultEvent):
                used = event.result.usage
                yield Chunk(usage=Usage(used.input_tokens, used.output_tokens, used.cache_read_tokens))


def past(message: Message) -> ModelMessage:
    if message.role == "user":
        return ModelRequest([UserPromptPart(message.text)])
    return ModelResponse([TextPart(message.text)])
