"""Calls a bot of the operator's own: plain functions in a thread for each call, async ones in one event loop.

The slot of a worker waits for the chunks, and for the call's cancellation: it never waits for a bot that blocks.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any

from chatbot.bot import Chunk
from chatbot.worker.bots.handover import Handover
from chatbot.worker.bots.loader import Bot
from chatbot.worker.models.errors import ModelUnavailable

logger = logging.getLogger(__name__)

#: Seconds after its cancellation for which a call may still run, to close what it uses, without a line of the log.
_GRACE = 5.0
#: Seconds between two such lines.
_REPORT_INTERVAL = 60.0
#: Seconds between two checks of a full queue by an async bot.
_FULL_CHECK = 0.01


Done = Callable[["BotCall", BaseException | None], None]


class BotCall:
    """One call of the bot."""

    def __init__(self) -> None:
        self.handover: Handover[Chunk] = Handover()
        self.cancelled = threading.Event()
        self.task: asyncio.Task[None] | None = None
        # Below, guarded by the lock of `BotCaller`.
        #: From before the bot is called until it has returned.
        self.running = False
        #: When the call was cancelled while it ran, by the monotonic clock.
        self.cancelled_at = 0.0


class BotCaller:
    """Calls one bot, for all slots of a worker process."""

    def __init__(self, bot: Bot, name: str, most_blocked: int) -> None:
        """At most `most_blocked` cancelled calls may run on; while there are more, no call begins."""
        self._bot = bot
        self._name = name
        self._most_blocked = most_blocked
        self._loop = EventLoop()
        self._lock = threading.Lock()
        self._cancelled: set[BotCall] = set()
        #: When it was last logged that cancelled calls run on, by the monotonic clock.
        self._reported_at = -_REPORT_INTERVAL

    def chunks(self, call: BotCall, *arguments: Any) -> Generator[Chunk, None, None]:
        """The bot's chunks. Raises what the bot raises; ends early, and at once, when the call is cancelled."""
        self._refuse_beyond_limit()
        with self._lock:
            if call.handover.closed:
                return
            call.running = True
        try:
            self._start(call, arguments)
            yield from call.handover
        finally:
            self.cancel(call)

    def _start(self, call: BotCall, arguments: tuple[Any, ...]) -> None:
        # The lines that a bot logs name the session and the message.
        variables = copy_context()
        if _is_async(self._bot):
            self._loop.start(call, self._run_async(call, arguments), variables, self._ended)
            return
        run = (self._run, call, arguments)
        try:
            threading.Thread(target=variables.run, args=run, name="bot", daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                call.running = False
            raise ModelUnavailable("callable", f"{error}, with {threading.active_count()} threads") from error

    def cancel(self, call: BotCall) -> None:
        """Ends the call, from any thread: closes its queue, sets its flag, cancels its task. Does not wait for it."""
        with self._lock:
            if call.handover.closed:
                return
            if call.running:
                call.cancelled_at = time.monotonic()
                self._cancelled.add(call)
            call.handover.close()
        call.cancelled.set()
        self._loop.cancel(call)

    def _refuse_beyond_limit(self) -> None:
        """Logs that cancelled calls run on. Raises `ModelUnavailable` when these are too many."""
        with self._lock:
            blocked, oldest = len(self._cancelled), min((c.cancelled_at for c in self._cancelled), default=0.0)
        now = time.monotonic()
        since = now - oldest
        if blocked and since > _GRACE and now - self._reported_at >= _REPORT_INTERVAL:
            self._reported_at = now
            line = "%d cancelled calls of %s have not returned, the oldest for %.0f s: context.cancelled ends them"
            logger.warning(line, blocked, self._name, since)
        if blocked >= self._most_blocked:
            raise ModelUnavailable("callable", f"{blocked} cancelled calls of {self._name} have not returned")

    def _ended(self, call: BotCall, error: BaseException | None) -> None:
        """In the thread or the loop of the call, once the bot has returned."""
        with self._lock:
            cancelled = call in self._cancelled
            self._cancelled.discard(call)
            call.running = False
        call.handover.end(error)
        if cancelled and isinstance(error, Exception):
            logger.warning("%s raised an exception after its call was cancelled", self._name, exc_info=error)

    def _run(self, call: BotCall, arguments: tuple[Any, ...]) -> None:
        """In a thread of its own."""
        error: BaseException | None = None
        try:
            result = self._bot(*arguments)
            if inspect.isawaitable(result) or hasattr(result, "__aiter__"):
                self._loop.start(call, _pass_on(call, result), copy_context(), self._ended)
                return
            _put_all(call, result)
        except BaseException as raised:  # noqa: BLE001 - the slot raises it
            error = raised
        self._ended(call, error)

    async def _run_async(self, call: BotCall, arguments: tuple[Any, ...]) -> None:
        await _pass_on(call, self._bot(*arguments))


def _put_all(call: BotCall, result: Any) -> None:
    """Hands over what a function returned, and closes it if it is a generator."""
    if isinstance(result, (str, Chunk)):
        call.handover.put(_chunk(result))
        return
    if not isinstance(result, Iterable):
        raise TypeError(f"the bot returned {type(result).__name__}, not text or an iterator of text")
    iterator = iter(result)
    try:
        for item in iterator:
            if not call.handover.put(_chunk(item)):
                return
    finally:
        # In this thread: no other one may close a generator that runs.
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def _pass_on(call: BotCall, result: Any) -> None:
    """Hands over what a coroutine returns, or an async iterator yields."""
    try:
        found = await result if inspect.isawaitable(result) else result
        if isinstance(found, (str, Chunk)):
            call.handover.put(_chunk(found), wait=False)
        elif hasattr(found, "__aiter__"):
            await _put_all_async(call, aiter(found))
        else:
            raise TypeError(f"the bot returned {type(found).__name__}, not text or an async iterator of text")
    except (SystemExit, KeyboardInterrupt) as error:
        # They would end the event loop.
        raise RuntimeError(f"the bot raised {type(error).__name__}") from error


async def _put_all_async(call: BotCall, iterator: AsyncIterator[Any]) -> None:
    try:
        async for item in iterator:
            while call.handover.full and not call.handover.closed:
                await asyncio.sleep(_FULL_CHECK)
            if not call.handover.put(_chunk(item), wait=False):
                return
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


class EventLoop:
    """The event loop of all async bots of this process, in a thread of its own that starts with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, call: BotCall, work: Coroutine[Any, Any, None], variables: Variables, done: Done) -> None:
        """Runs `work` as the task of `call`, in the context `variables`; calls `done` at its end, with its error."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="bot-loop", daemon=True).start()
            loop = self._loop

        def start() -> None:
            # The loop itself has no strong reference to a task.
            call.task = task = loop.create_task(work, context=variables)
            task.add_done_callback(lambda _: done(call, _error(task)), context=variables)
            if call.handover.closed:
                task.cancel()

        loop.call_soon_threadsafe(start)

    def cancel(self, call: BotCall) -> None:
        """Cancels the call's task, if there is one."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: call.task and call.task.cancel())


def _error(task: asyncio.Task[None]) -> BaseException | None:
    return (
        asyncio.CancelledError("something that the bot waited for was cancelled")
        if task.cancelled()
        else task.exception()
    )


def _is_async(bot: Bot) -> bool:
    """Whether calling it only makes a coroutine or an async generator."""
    forms = (bot, getattr(bot, "__call__", None))  # noqa: B004 - of an object, its method is asked
    return any(inspect.iscoroutinefunction(form) or inspect.isasyncgenfunction(form) for form in forms)


def _chunk(value: Any) -> Chunk:
    if isinstance(value, str):
        return Chunk(value)
    if isinstance(value, Chunk):
        return value
    raise TypeError(f"the bot yielded {type(value).__name__}: text or a Chunk is needed")
