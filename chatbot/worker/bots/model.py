"""A bot of the operator's own as a model: the function that `MODEL_CALLABLE` names. See docs/bots.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing

from chatbot.bot import Chunk, Context, Message, Retry
from chatbot.errors import StoreUnavailable
from chatbot.worker.bots.caller import BotCall, BotCaller
from chatbot.worker.bots.errors import failure, is_transient
from chatbot.worker.bots.loader import load_callable, takes_context
from chatbot.worker.models.answers.piece import Piece, Pieces
from chatbot.worker.models.answers.reply_text import ReplyText
from chatbot.worker.models.answers.usage import Usage
from chatbot.worker.models.base import Model
from chatbot.worker.models.call import Call
from chatbot.worker.models.errors import ModelError, ModelUnavailable
from chatbot.worker.prompts import PromptMessage

logger = logging.getLogger(__name__)

_FINISH_REASONS = (None, "stop", "length", "content_filter")

#: The user's name and the start of a session, by its id.
Facts = Callable[[str], tuple[str, str]]


class PythonModel(Model):
    """Calls the function in this process."""

    def __init__(self, name: str, facts: Facts, concurrency: int) -> None:
        """Raises `ConfigurationError` for a name without a usable function.

        While as many cancelled calls as `concurrency` do not return, no further call begins.
        """
        bot = load_callable(name)
        self._name = name
        self._facts = facts
        self._with_context = takes_context(bot, name)
        self._caller = BotCaller(bot, name, concurrency)

    def generate(self, conversation: Sequence[PromptMessage], call: Call) -> Pieces:
        bot_call = BotCall()
        arguments = self._arguments(conversation, call, bot_call)
        call.on_cancel(lambda: self._caller.cancel(bot_call))
        text, thoughts, usage = ReplyText(), ReplyText(), None
        try:
            with closing(self._caller.chunks(bot_call, *arguments)) as chunks:
                for chunk in chunks:
                    call.begin()
                    usage = _usage(chunk) or usage
                    shown, thought = text.feed(chunk.text), thoughts.feed(chunk.reasoning)
                    if (reason := _finish_reason(chunk)) is not None:
                        yield Piece(shown + text.end(), reason, thought + thoughts.end(), usage=usage)
                        return
                    if shown or thought:
                        yield Piece(shown, None, thought)
        except (ModelError, GeneratorExit):
            raise
        except BaseException as error:
            call.check()
            raise self._failure(error) from error
        finally:
            call.done()
        call.check()
        yield Piece(text.end(), "stop", thoughts.end(), usage=usage)

    def _arguments(
        self, conversation: Sequence[PromptMessage], call: Call, bot_call: BotCall
    ) -> tuple[list[Message], Context] | tuple[list[Message]]:
        # Requests with outputs of tools are refused before.
        messages = [Message(message.role, message.text) for message in conversation if message.role != "tool"]
        if not self._with_context:
            return (messages,)
        work = call.assignment
        try:
            name, session_start = self._facts(call.session)
        except StoreUnavailable as error:
            raise ModelUnavailable("callable", f"the session's name could not be read: {error}") from error
        return messages, Context(
            session=call.session,
            name=name,
            session_start=session_start,
            message_id=work.message_id if work else "",
            reply_id=work.reply_id if work else "",
            attempt=work.attempts + 1 if work else 1,
            messages=work.messages if work else (),
            partial=work.partial if work else "",
            options=call.options or {},
            _cancelled=bot_call.cancelled,
        )

    def _failure(self, error: BaseException) -> ModelError:
        """Logs the exception whole, unless the bot asks for a retry itself."""
        if not isinstance(error, Retry) or error.__cause__ is not None:
            level = logging.WARNING if is_transient(error) else logging.ERROR
            logger.log(level, "%s raised an exception", self._name, exc_info=error)
        return failure(error, self._name)


def _usage(chunk: Chunk) -> Usage | None:
    if (usage := chunk.usage) is None:
        return None
    return Usage(int(usage.prompt_tokens), int(usage.cached_tokens), int(usage.completion_tokens))


def _finish_reason(chunk: Chunk) -> str | None:
    if chunk.finish_reason not in _FINISH_REASONS:
        raise ValueError(f"the finish reason must be stop, length or content_filter, not {chunk.finish_reason!r}")
    return chunk.finish_reason
