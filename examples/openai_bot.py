"""A bot that asks a model through the `openai` package, and streams what it says.

OPENAI_API_KEY is the key, OPENAI_BASE_URL another server than OpenAI's, OPENAI_MODEL the model.
"""

import os
from collections.abc import AsyncIterator

from openai import AsyncOpenAI

from chatbot.bot import Chunk, Message, Usage

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5-mini")

# One client for all replies, as they run in one event loop. The worker retries, so the client does not.
client = AsyncOpenAI(max_retries=0)


async def reply(conversation: list[Message]) -> AsyncIterator[str | Chunk]:
    reason, usage = "stop", None
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": message.role, "content": message.text} for message in conversation],
        stream=True,
        stream_options={"include_usage": True},
    )
    # A stopped reply leaves the block, which closes the connection: the server then stops generating.
    async with stream:
        async for event in stream:
            if event.choices:
                reason = event.choices[0].finish_reason or reason
                yield event.choices[0].delta.content or ""
            if event.usage:
                usage = Usage(event.usage.prompt_tokens, event.usage.completion_tokens)
    yield Chunk(finish_reason="length" if reason == "length" else "stop", usage=usage)
