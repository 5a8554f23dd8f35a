"""The client for asyncio."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self

from chatbot_client.connections import WAYS, Connection, Disconnected, Http, Unusable
from chatbot_client.errors import ChatError, Refused, SessionExpired
from chatbot_client.reply import AsyncReply
from chatbot_client.state import UNAVAILABLE, Request, State
from chatbot_client.types import SHOWN, Frame, Message, OnBusy, Page, Way

#: Seconds before a new connection: at first, doubling up to the longest; a random part is taken off.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0
#: Seconds after which a message that could not be stored is sent again.
_AGAIN = 1.0


class AsyncChat:
    """One session: `async with AsyncChat(url, token)`, or `async with await AsyncChat.start(url, "Ada")`."""

    def __init__(self, url: str, token: str, *, after: str | None = None, ways: Sequence[Way] = tuple(WAYS)) -> None:
        """`url` is the address of the page. `after` is the last message that is known, for a session that goes on.

        `ways` are tried in their order: `websocket`, `events` (server-sent) and `polling`.
        """
        self.token = token
        self._http = Http(url, token)
        self._ways = tuple(ways)
        self._state = State(after)
        self._changed = asyncio.Condition()
        self._connection: Connection | None = None
        self._sending = asyncio.Lock()
        self._events: list[asyncio.Queue[Frame]] = []
        self._error: ChatError | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, url: str, name: str, *, ways: Sequence[Way] = tuple(WAYS)) -> Self:
        """A new session. Raises `Refused` for a name that is not taken, and `ConnectionError`."""
        http = Http(url, None)
        async with http.client:
            session = await http.ask("POST", "/token", json={"name": name})
        return cls(url, session["token"], ways=ways)

    async def __aenter__(self) -> Self:
        self._begin(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnects. The session goes on; a reply is generated all the same."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.client.aclose()

    @property
    def last_id(self) -> str | None:
        """The last complete message that was received: `after` of a later client of the same session."""
        return self._state.after

    @property
    def leaf(self) -> str | None:
        """The last message of the path that the session shows."""
        return self._state.leaf

    def send(
        self, text: str, *, id: str | None = None, parent: str | None = SHOWN, on_busy: OnBusy = "queue"
    ) -> AsyncReply:
        """Sends a message, at once or as soon as there is a connection, and again until it is acknowledged.

        The same `id` again is not a second message. Without a `parent` it follows the path that is shown.
        """
        frame = {"type": "message", "msg": text, "on_busy": on_busy}
        return self._ask(frame if parent is SHOWN else {**frame, "parent": parent}, id)

    async def ask(
        self, text: str, *, id: str | None = None, parent: str | None = SHOWN, on_busy: OnBusy = "queue"
    ) -> Message:
        """Sends a message, like `send`, and waits for the complete reply."""
        return await self.send(text, id=id, parent=parent, on_busy=on_busy).result()

    def edit(self, of: str, text: str, *, id: str | None = None, on_busy: OnBusy = "queue") -> AsyncReply:
        """Sends a message in place of the human message `of`."""
        return self._ask({"type": "edit", "of": of, "msg": text, "on_busy": on_busy}, id)

    def regenerate(self, of: str, *, id: str | None = None, on_busy: OnBusy = "queue") -> AsyncReply:
        """Asks for another reply to the human message `of`, or to the one that the reply `of` answers."""
        return self._ask({"type": "regenerate", "of": of, "on_busy": on_busy}, id)

    def retry(self, failed: AsyncReply | str) -> AsyncReply:
        """Asks again for a reply that failed; a request's id will do."""
        if isinstance(failed, str):
            return self._ask({"type": "retry"}, failed)
        return self._ask({"type": "retry"}, failed.id, failed.request.original or failed.request.frame)

    async def stop(self) -> None:
        """Ends the reply that is being generated; its text so far becomes the reply. Raises `ConnectionError`."""
        await self._send_once({"type": "stop"})

    async def select(self, id: str) -> None:
        """Has the session show the path through this message."""
        await self._send_once({"type": "select", "id": id})

    async def feedback(self, id: str, rating: Literal["up", "down"] | None, text: str | None = None) -> None:
        """Rates the reply `id`."""
        frame = {"type": "feedback", "id": id, "rating": rating}
        await self._send_once(frame if text is None else {**frame, "text": text})

    async def history(self, before: str | None = None, limit: int | None = None) -> Page:
        """A page of the history, the newest without `before`. Raises `Refused`, `SessionExpired`, `ConnectionError`."""
        params = {name: value for name, value in (("before", before), ("limit", limit)) if value is not None}
        page = await self._http.ask("GET", "/refresh_token", params=params)
        messages = tuple(map(Message.from_frame, page["messages"]))
        return Page(messages, page["before"] if page["more"] else None, page.get("leaf"))

    async def pages(self) -> AsyncIterator[Page]:
        """All pages of the history, from the newest to the oldest."""
        page = await self.history()
        yield page
        while page.before is not None:
            page = await self.history(page.before)
            yield page

    async def end(self) -> None:
        """Ends the session: all that is stored of it is deleted."""
        await self._http.ask("DELETE", "/token")

    async def events(self) -> AsyncIterator[Frame]:
        """All frames from now on, as the server sends them: also messages from other clients of the session."""
        queue: asyncio.Queue[Frame] = asyncio.Queue()
        self._events.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._events.remove(queue)

    def _ask(self, frame: Frame, id: str | None, original: Frame | None = None) -> AsyncReply:
        request = Request(id or secrets.token_urlsafe(12), frame, original)
        frame["id"] = request.id
        if self._error is not None:
            request.error = self._error
        else:
            self._state.add(request)
            self._begin(self._deliver([frame]))
        return AsyncReply(request, self._until)

    async def _send_once(self, frame: Frame) -> None:
        """Raises `ConnectionError` when the frame may not have arrived."""
        await self._until(lambda: self._connection is not None)
        async with self._sending:
            if self._connection is None:
                raise ConnectionError("the connection broke")
            try:
                await self._connection.send(frame)
            except Disconnected as error:
                raise ConnectionError(str(error)) from None

    async def _until(self, true: Callable[[], bool]) -> None:
        """Returns once `true()` is. Raises the error that has ended the session."""
        async with self._changed:
            await self._changed.wait_for(lambda: true() or self._error is not None)
        if not true() and self._error is not None:
            raise self._error

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, frames: Sequence[Frame]) -> None:
        """Sends the frames in order, if there is a connection: the next one sends what is not acknowledged."""
        async with self._sending:
            for frame in frames:
                connection, request = self._connection, self._state.open.get(frame["id"])
                if connection is None:
                    return
                try:
                    for answer in await connection.send(frame):
                        await self._apply(answer)
                except Disconnected:
                    # A stream may go on where a request failed.
                    if request is not None:
                        self._begin(self._deliver_later(request, _AGAIN))
                except SessionExpired as error:
                    await self._end(error)

    async def _apply(self, frame: Frame) -> None:
        again = self._state.apply(frame)
        for queue in self._events:
            queue.put_nowait(frame)
        async with self._changed:
            self._changed.notify_all()
        if again:
            self._begin(self._deliver(again))
        if frame["type"] == "error" and frame["code"] == UNAVAILABLE and (id := frame.get("id")) in self._state.open:
            self._begin(self._deliver_later(self._state.open[id], frame.get("retry_after") or _AGAIN))

    async def _deliver_later(self, request: Request, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not request.acknowledged and not request.done:
            await self._deliver([request.frame])

    async def _end(self, error: ChatError) -> None:
        self._error = error
        self._state.fail_all(error)
        async with self._changed:
            self._changed.notify_all()

    async def _run(self) -> None:
        """Holds a connection until the session is over."""
        way, wait = 0, _FIRST_WAIT
        while self._error is None:
            connection = WAYS[self._ways[way % len(self._ways)]](self._http)
            least = 0.0
            try:
                async with aclosing(connection.frames(self._state.after)) as frames:
                    async for frame in frames:
                        if self._connection is None:
                            self._connection, wait = connection, _FIRST_WAIT
                        await self._apply(frame)
            except Unusable as error:
                way, least = way + 1, error.retry_after
            except Disconnected as error:
                least = error.retry_after
            except (Refused, SessionExpired) as error:
                await self._end(error)
            finally:
                self._connection = None
            if self._error is None:
                await asyncio.sleep(max(wait * random.uniform(0.5, 1), least))
                wait = min(wait * 2, _LONGEST_WAIT)
