"""The client for plain code: `AsyncChat` in an event loop of its own, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from chatbot_client.asynchronous import AsyncChat
from chatbot_client.connections import WAYS
from chatbot_client.reply import AsyncReply
from chatbot_client.types import SHOWN, Delta, Frame, Message, OnBusy, Page, Way

T = TypeVar("T")


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chatbot-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """The result of the coroutine. Raises `TimeoutError`; what it waited for goes on."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Items(Generic[T]):
    """An async iterator's items, for plain code."""

    def __init__(self, loop: _Loop, items: AsyncIterator[T]) -> None:
        self._loop, self._items = loop, items

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        async def following() -> T:
            try:
                return await anext(self._items)
            except StopAsyncIteration:
                # No exception that a future may hold.
                raise _End from None

        try:
            return self._loop.run(following())
        except _End:
            raise StopIteration from None


class _End(Exception):
    pass


class Reply:
    """A reply that is awaited: `for delta in reply` streams it, `result()` waits for the complete message.

    Both raise `ReplyFailed`, `Refused` and `SessionExpired`.
    """

    def __init__(self, loop: _Loop, reply: AsyncReply) -> None:
        self._loop, self._reply = loop, reply

    @property
    def id(self) -> str:
        """The id of the request: that of the message, for an edit or a message."""
        return self._reply.id

    @property
    def text(self) -> str:
        """The text so far."""
        return self._reply.text

    @property
    def reasoning(self) -> str:
        """What the model has thought so far."""
        return self._reply.reasoning

    @property
    def state(self) -> str | None:
        """`loading` or `retrying` while the reply takes longer."""
        return self._reply.state

    @property
    def message(self) -> Message | None:
        """The complete reply, once it is there."""
        return self._reply.message

    def acknowledged(self, timeout: float | None = None) -> None:
        """Returns once the server has stored the message. Raises `TimeoutError` after `timeout` seconds."""
        self._loop.run(self._reply.acknowledged(), timeout)

    def result(self, timeout: float | None = None) -> Message:
        """The complete reply. Raises `TimeoutError` after `timeout` seconds; the reply may be awaited again."""
        return self._loop.run(self._reply.result(), timeout)

    def __iter__(self) -> Iterator[Delta]:
        """The changes of the text, from the beginning; together they are the complete reply's text."""
        return iter(_Items(self._loop, aiter(self._reply)))


class Chat:
    """One session: `with Chat(url, token)`, or `with Chat.start(url, "Ada")`. The methods are those of `AsyncChat`.

    All threads may use it.
    """

    def __init__(self, url: str, token: str, *, after: str | None = None, ways: Sequence[Way] = tuple(WAYS)) -> None:
        """`url` is the address of the page. `after` is the last message that is known, for a session that goes on.

        `ways` are tried in their order: `websocket`, `events` (server-sent) and `polling`.
        """
        self._loop = _Loop()

        async def make() -> AsyncChat:
            return await AsyncChat(url, token, after=after, ways=ways).__aenter__()

        self._chat = self._loop.run(make())

    @classmethod
    def start(cls, url: str, name: str, *, ways: Sequence[Way] = tuple(WAYS)) -> Self:
        """A new session. Raises `Refused` for a name that is not taken, and `ConnectionError`."""
        loop = _Loop()
        try:
            return cls(url, loop.run(AsyncChat.start(url, name)).token, ways=ways)
        finally:
            loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects. The session goes on; a reply is generated all the same."""
        self._loop.run(self._chat.close())
        self._loop.close()

    @property
    def token(self) -> str:
        """What opens the session; a secret."""
        return self._chat.token

    @property
    def last_id(self) -> str | None:
        """The last complete message that was received: `after` of a later client of the same session."""
        return self._chat.last_id

    @property
    def leaf(self) -> str | None:
        """The last message of the path that the session shows."""
        return self._chat.leaf

    def send(self, text: str, *, id: str | None = None, parent: str | None = SHOWN, on_busy: OnBusy = "queue") -> Reply:
        """Sends a message, at once or as soon as there is a connection, and again until it is acknowledged.

        The same `id` again is not a second message. Without a `parent` it follows the path that is shown.
        """
        return self._reply(lambda: self._chat.send(text, id=id, parent=parent, on_busy=on_busy))

    def ask(
        self,
        text: str,
        *,
        timeout: float | None = None,
        id: str | None = None,
        parent: str | None = SHOWN,
        on_busy: OnBusy = "queue",
    ) -> Message:
        """Sends a message, like `send`, and waits for the complete reply. Raises `TimeoutError`."""
        return self.send(text, id=id, parent=parent, on_busy=on_busy).result(timeout)

    def edit(self, of: str, text: str, *, id: str | None = None, on_busy: OnBusy = "queue") -> Reply:
        """Sends a message in place of the human message `of`."""
        return self._reply(lambda: self._chat.edit(of, text, id=id, on_busy=on_busy))

    def regenerate(self, of: str, *, id: str | None = None, on_busy: OnBusy = "queue") -> Reply:
        """Asks for another reply to the human message `of`, or to the one that the reply `of` answers."""
        return self._reply(lambda: self._chat.regenerate(of, id=id, on_busy=on_busy))

    def retry(self, failed: Reply | str) -> Reply:
        """Asks again for a reply that failed; a request's id will do."""
        return self._reply(lambda: self._chat.retry(failed._reply if isinstance(failed, Reply) else failed))

    def stop(self) -> None:
        """Ends the reply that is being generated; its text so far becomes the reply."""
        self._loop.run(self._chat.stop())

    def select(self, id: str) -> None:
        """Has the session show the path through this message."""
        self._loop.run(self._chat.select(id))

    def feedback(self, id: str, rating: Literal["up", "down"] | None, text: str | None = None) -> None:
        """Rates the reply `id`."""
        self._loop.run(self._chat.feedback(id, rating, text))

    def history(self, before: str | None = None, limit: int | None = None) -> Page:
        """A page of the history, the newest without `before`. Raises `Refused`, `SessionExpired`, `ConnectionError`."""
        return self._loop.run(self._chat.history(before, limit))

    def pages(self) -> Iterator[Page]:
        """All pages of the history, from the newest to the oldest."""
        return iter(_Items(self._loop, self._chat.pages()))

    def events(self) -> Iterator[Frame]:
        """All frames from now on, as the server sends them: also messages from other clients of the session."""
        return iter(_Items(self._loop, self._chat.events()))

    def end(self) -> None:
        """Ends the session: all that is stored of it is deleted."""
        self._loop.run(self._chat.end())

    def _reply(self, make: Callable[[], AsyncReply]) -> Reply:
        async def made() -> AsyncReply:
            return make()

        return Reply(self._loop, self._loop.run(made()))
