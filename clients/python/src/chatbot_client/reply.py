"""A reply that a client awaits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from chatbot_client.state import Request
from chatbot_client.types import Delta, Message

#: Raises the error that has ended the session.
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class AsyncReply:
    """A reply that is awaited: `async for delta in reply` streams it, `await reply` waits for the complete message.

    Both raise `ReplyFailed`, `Refused` and `SessionExpired`.
    """

    def __init__(self, request: Request, until: Until) -> None:
        """`until` returns once the condition that it is given is true."""
        self.request = request
        self._until = until

    @property
    def id(self) -> str:
        """The id of the request: that of the message, for an edit or a message."""
        return self.request.id

    @property
    def text(self) -> str:
        """The text so far."""
        return self.request.text

    @property
    def reasoning(self) -> str:
        """What the model has thought so far."""
        return self.request.reasoning

    @property
    def state(self) -> str | None:
        """`loading` or `retrying` while the reply takes longer."""
        return self.request.state

    @property
    def message(self) -> Message | None:
        """The complete reply, once it is there."""
        return self.request.message

    async def acknowledged(self) -> None:
        """Returns once the server has stored the message: it will be answered, whatever happens to this client."""
        await self._until(lambda: self.request.acknowledged or self.request.done)
        if self.request.error is not None:
            raise self.request.error

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """The changes of the text, from the beginning; together they are the complete reply's text."""
        place = 0
        while True:
            await self._until(self._after(place))
            if place == len(self.request.deltas):
                break
            place += 1
            yield self.request.deltas[place - 1]
        if self.request.error is not None:
            raise self.request.error

    def _after(self, place: int) -> Callable[[], bool]:
        return lambda: len(self.request.deltas) > place or self.request.done

    def __await__(self) -> Any:
        return self.result().__await__()

    async def result(self) -> Message:
        """The complete reply."""
        await self._until(lambda: self.request.done)
        if self.request.error is not None:
            raise self.request.error
        assert self.request.message is not None  # noqa: S101 - done without an error
        return self.request.message
